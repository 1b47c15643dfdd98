import io

import pytest
import torch
from authors import authors_checkpoint
from server import Server

import timm

from timm_mobilenext.checkpoints import official as downloads
from timm_mobilenext.shared.errors import UserError


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, '_WAIT', 0)
    server = Server()
    yield server
    server.shutdown()


@pytest.fixture
def pin(server, monkeypatch):
    """Serve a content in one of the authors' directories, as the pinned one."""
    def pin(directory, content):
        server.files[f'/{directory}/model_best.pth.tar'] = content
        monkeypatch.setitem(downloads.BLOB_IDS, directory, downloads.blob_id_of(content))
        return dict(url=f'{server.url}/{directory}/model_best.pth.tar')
    return pin


@pytest.fixture
def official(pin):
    """mobilenext_100 on the server, and how to create it from there."""
    overlay = pin('74_02_full_id_tensor', authors_checkpoint('mobilenext_100'))

    def create(cache_dir, **kwargs):
        return timm.create_model(
            'mobilenext_100', pretrained=True, pretrained_cfg_overlay=overlay, cache_dir=cache_dir, **kwargs)
    return create


@pytest.fixture
def create_from(pin, tmp_path):
    """Create a model from a checkpoint that is served in one of the authors' directories."""
    def create(name, checkpoint):
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        overlay = pin('74_02_full_id_tensor', buffer.getvalue())
        return timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, cache_dir=tmp_path, num_classes=5)
    return create


@pytest.fixture
def message_of():
    """Message of the UserError that a function raises, which is one line."""
    def message_of(function, *args, **kwargs):
        with pytest.raises(UserError) as info:
            function(*args, **kwargs)
        message = str(info.value)
        assert len(message.splitlines()) == 1 and message.endswith('.'), message
        return message
    return message_of
