"""The summary of a network."""
import json

from torchinfo import summary

import timm

found = summary(timm.create_model('mobilenext_100'), (1, 3, 224, 224), depth=3, verbose=0)
print(found)
print(json.dumps(dict(parameters=found.total_params, macs=found.total_mult_adds)))
