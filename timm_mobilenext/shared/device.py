""" Devices of torch"""
import torch

from .errors import first_line, UserError

__all__ = ['check_device']


def check_device(device: str) -> None:
    """ Raise a UserError if torch does not have this device here."""
    try:
        torch.empty(1, device=device)
    except Exception as e:  # what torch raises differs from device to device
        raise UserError(
            f'There is no device {device} here ({first_line(e).rstrip(".")}): give another, such as cpu.') from None
