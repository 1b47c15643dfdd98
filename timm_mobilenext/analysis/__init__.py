""" Instruments for the paper's arguments: gradients and information in the blocks of any model of timm"""
