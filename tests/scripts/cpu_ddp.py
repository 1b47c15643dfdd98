"""For train.py's --device-modules: it names a device to DDP, which torch takes for GPUs alone. This leaves it out."""
from torch.nn.parallel import DistributedDataParallel

_init = DistributedDataParallel.__init__


def _init_without_device(self, module, device_ids=None, **kwargs):
    _init(self, module, **kwargs)


DistributedDataParallel.__init__ = _init_without_device
