""" Checkpoints: read without trust, converted from the authors' keys, and the authors' own five files"""
