""" Version of this package and the timm releases that its tests run on"""
__version__ = '0.1.0'

# oldest and newest timm release on which the model tests pass
TIMM_OLDEST = '1.0.21'
TIMM_NEWEST = '1.0.31'
