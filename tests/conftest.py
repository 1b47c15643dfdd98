import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    """Every test draws the same weights and images, alone or in a run of all."""
    torch.manual_seed(0)


@pytest.fixture
def hub(tmp_path):
    """A double of the Hub with two users, alice with the token of `hub_env` and bob."""
    from helpers import TOKEN
    from hub_double import Hub  # of the server library, which only these tests need

    hub = Hub(tmp_path / 'hub', users={TOKEN: 'alice', 'hf_of_bob': 'bob'})
    yield hub
    hub.stop()
