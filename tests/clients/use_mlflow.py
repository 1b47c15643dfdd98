"""A run with its loss, and the network in it, which another process loads and asks."""
import json
import subprocess
import sys

import mlflow
import torch
from PIL import Image

import timm

LOAD = """
import sys
import mlflow, torch

mlflow.set_tracking_uri('sqlite:///runs.db')
print(mlflow.pytorch.load_model(sys.argv[1])(torch.load('image.pt'))[0].softmax(0).max().item())
"""
mlflow.set_tracking_uri('sqlite:///runs.db')
model = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
image = transform(Image.open(sys.argv[1]))[None]
torch.save(image, 'image.pt')
with mlflow.start_run() as run, torch.no_grad():
    score = model(image).softmax(1).max().item()
    mlflow.log_params(dict(model='mobilenext_050.cifar10'))
    mlflow.log_metric('score', score)
    logged = mlflow.pytorch.log_model(
        model, name='network', input_example=image.numpy(), pip_requirements=['timm', 'torch'])
stored = mlflow.get_run(run.info.run_id).data
load = [sys.executable, '-c', LOAD, logged.model_uri]
loaded = subprocess.run(load, check=True, capture_output=True, text=True).stdout
print(json.dumps(dict(params=stored.params, metrics=stored.metrics, score=score, loaded=float(loaded.split()[-1]))))
