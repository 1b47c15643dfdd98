""" SSDLite on any backbone of timm: boxes around what is in a photograph"""
from .ssdlite import create_ssdlite, SSDLite, ssdlite320_mobilenetv2_100, ssdlite320_mobilenext_100

__all__ = ['create_ssdlite', 'SSDLite', 'ssdlite320_mobilenetv2_100', 'ssdlite320_mobilenext_100']
