"""A page that names what is in a photograph, served on loopback and asked by its client, as by a browser."""
import json
import sys

import gradio as gr
import torch
from gradio_client import Client, handle_file

import timm

model = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))


@torch.inference_mode()
def classify(image):
    shares = model(transform(image)[None]).softmax(1)[0].tolist()
    return dict(zip(model.pretrained_cfg['label_names'], shares, strict=True))


page = gr.Interface(classify, gr.Image(type='pil'), gr.Label(num_top_classes=3), api_name='classify')
_, url, _ = page.launch(prevent_thread_lock=True, quiet=True)
answer = Client(url, verbose=False).predict(handle_file(sys.argv[1]), api_name='/classify')
page.close()
print(json.dumps(answer))
