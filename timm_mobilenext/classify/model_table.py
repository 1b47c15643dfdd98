""" The models of this package in a table: size, cost, accuracy, weights"""
import re
from typing import Any

from rich.table import Table

import timm

from ..shared.console import create_table_console
from ..shared.counts import count
from ..shared.names import in_timm, list_ours

__all__ = ['run_models']


def run_models() -> None:
    """ Print a row for each MobileNeXt: parameters, MACs at its own image size, top-1, and the tags with weights."""
    table = Table(box=None, pad_edge=False, header_style='bold')
    for heading in ('model', 'parameters', 'MACs', 'image size', 'top-1', 'on', 'weights'):
        table.add_column(heading, justify='left' if heading in ('model', 'on', 'weights') else 'right', no_wrap=True)
    for name in list_ours():
        cfg: Any = timm.get_pretrained_cfg(name)
        counts = count(timm.create_model(name, device='meta'))
        accuracy = re.match(r'(\S+) top-1 ([\d.]+)', (cfg.notes or [''])[0])
        tags = [full_name.partition('.')[2] for full_name in timm.list_pretrained(f'{name}.*')]
        table.add_row(
            name,
            f'{counts["params"] / 1e6:.2f} M',
            f'{counts["macs"] / 1e6:.1f} M',
            f'{cfg.input_size[1]} px',
            f'{float(accuracy[2]):.2f} %' if accuracy else '-',
            accuracy[1] if accuracy else '-',
            ', '.join(tags) or '-',
        )
    console = create_table_console()
    console.print(table)
    console.print('\nThe authors report this top-1. timm loads weights by their name, such as'
                  f" timm.create_model('{in_timm('mobilenext_050.cifar10')}', pretrained=True).", soft_wrap=True)
