import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    """Every test draws the same weights and images, alone or in a run of all."""
    torch.manual_seed(0)
