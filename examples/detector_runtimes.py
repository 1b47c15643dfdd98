"""Converts a detector for five runtimes, and compares what each finds on photographs with what PyTorch finds."""
import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from timm_mobilenext.detection.export import export_onnx, export_program, RawDetector
from timm_mobilenext.detection.predict import load_detector
from timm_mobilenext.shared.errors import UserError


def onnxruntime(folder):
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / 'detector.onnx')
    return lambda image: session.run(None, {'image': image})


def openvino(folder):
    import openvino

    network = openvino.compile_model(folder / 'detector.onnx', 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    return lambda image: network(image).to_tuple()


def executorch(folder):
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    program = to_edge_transform_and_lower(
        torch.export.load(folder / 'detector.pt2'), partitioner=[XnnpackPartitioner()])
    (folder / 'detector.pte').write_bytes(program.to_executorch().buffer)
    method = Runtime.get().load_program(folder / 'detector.pte').load_method('forward')
    return lambda image: [output.numpy() for output in method.execute([torch.from_numpy(image)])]


def litert(folder):
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter

    program = torch.export.load(folder / 'detector.pt2')
    litert_torch.convert(program.module(), program.example_inputs[0]).export(str(folder / 'detector.tflite'))
    runner = Interpreter(str(folder / 'detector.tflite')).get_signature_runner()
    return lambda image: [runner(args_0=image)[f'output_{i}'] for i in range(2)]


def ncnn(folder):
    import ncnn
    import pnnx

    shape = str(list(torch.export.load(folder / 'detector.pt2').example_inputs[0][0].shape)).replace(' ', '')
    subprocess.run([pnnx.EXEC_PATH, 'detector.onnx', f'inputshape={shape}', 'fp16=0'], cwd=folder, check=True,
                   capture_output=True)
    net = ncnn.Net()  # on ARM, it would compute in float16
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(str(folder / 'detector.ncnn.param'))
    net.load_model(str(folder / 'detector.ncnn.bin'))

    def run(image):
        extractor = net.create_extractor()
        extractor.input('in0', ncnn.Mat(image[0]))
        return [np.array(extractor.extract(f'out{i}')[1])[None] for i in range(2)]

    return run


RUNTIMES = {  # what each needs beside timm-mobilenext[detection]
    onnxruntime: 'onnxruntime', openvino: 'openvino', executorch: 'executorch', litert: 'litert-torch ai-edge-litert',
    ncnn: 'ncnn pnnx',
}


def nms(boxes, scores, score_thresh, nms_thresh, topk_candidates, detections_per_img):
    found = []
    for label, column in enumerate(scores.T, 1):
        order = np.argsort(-column, kind="stable")[:topk_candidates]
        order = order[column[order] > score_thresh]
        while len(order):
            box, others = boxes[order[0]], boxes[order[1:]]
            found.append((column[order[0]], label, box))
            shared = (np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])).clip(0).prod(1)
            either = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared
            order = order[1:][shared <= nms_thresh * either]
    return sorted(found, key=lambda one: -one[0])[:detections_per_img]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('detector', help='folder of a detector, such as best/ of a training')
parser.add_argument('photographs', type=Path, help='folder of photographs')
parser.add_argument('-o', '--output', type=Path, required=True, help='folder to write the files of the runtimes to')
args = parser.parse_args()
if args.output.exists():
    sys.exit(f'{args.output} exists: remove it, or give another --output')
files = sorted(file for file in args.photographs.glob('*') if file.suffix.lower() in ('.jpg', '.jpeg', '.png'))
if not files:
    sys.exit(f'{args.photographs} has no photograph: expected .jpg, .jpeg or .png')
try:
    model = load_detector(args.detector)
except UserError as error:
    sys.exit(str(error))
args.output.mkdir(parents=True)
export_onnx(model, args.output / 'detector.onnx', raw=True)
export_program(model, args.output / 'detector.pt2')

size = model.img_size, model.img_size
images = [ImageOps.exif_transpose(Image.open(file)) for file in files]
images = [image.convert('RGB').resize(size, Image.Resampling.BILINEAR) for image in images]
images = [np.ascontiguousarray(np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255) for image in images]
settings = model.score_thresh, model.nms_thresh, model.topk_candidates, model.detections_per_img
with torch.inference_mode():
    raw = [[output.numpy() for output in RawDetector(model)(torch.from_numpy(image))] for image in images]
    found = [model([torch.from_numpy(image[0])])[0] for image in images]


def largest(differences):
    return f'{max((np.abs(difference).max(initial=0) for difference in differences), default=np.nan):.1e}'


table = [
    f'{len(images)} photographs, {sum(len(one["scores"]) for one in found):,} detections',
    'runtime      boxes, pixels  scores   the same detections  their boxes  their scores',
]
for runtime, packages in RUNTIMES.items():
    try:
        run = runtime(args.output)
        outputs = [run(image) for image in images]
    except Exception as error:  # a package that is missing, or an operator that the runtime lacks
        hint = f': pip install {packages}' if isinstance(error, ImportError) else ''
        table.append(f'{runtime.__name__:11}  {str(error) or type(error).__name__}{hint}')
        continue
    picked = [nms(boxes[0], scores[0], *settings) for boxes, scores in outputs]
    pairs = [
        (ours, one) for ours, one in zip(picked, found, strict=True)
        if [label for _, label, _ in ours] == one['labels'].tolist()]
    boxes = [np.array([box for *_, box in ours]).reshape(-1, 4) for ours, _ in pairs]
    table.append(f'{runtime.__name__:11}  ' + '  '.join((
        f'{largest(ours[0] - theirs[0] for ours, theirs in zip(outputs, raw, strict=True)):13}',
        f'{largest(ours[1] - theirs[1] for ours, theirs in zip(outputs, raw, strict=True)):7}',
        f'{f"in {len(pairs)} of {len(images)}":19}',
        f'{largest(ours - one["boxes"].numpy() for ours, (_, one) in zip(boxes, pairs, strict=True)):11}',
        largest(np.array([score for score, *_ in ours]) - one['scores'].numpy() for ours, one in pairs),
    )))
print('\n'.join(table))  # at the end, for converters print too
