""" What timm sees: the sandglass block, its block strings, and the registered networks"""
