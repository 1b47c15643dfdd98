""" `python -m timm_mobilenext`, which torchrun needs"""
from .cli.main import main

main()
