"""Files of exported networks, loaded for one thread: each function takes a file and returns a function of images.

Images and answers are arrays of NumPy.
"""
import numpy as np
import torch

__all__ = ['load_executorch', 'load_litert', 'load_ncnn', 'load_ncnn_net', 'load_onnx', 'load_openvino', 'run_ncnn']


def load_onnx(file):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


def load_openvino(file):
    import openvino

    config = {'INFERENCE_NUM_THREADS': 1, 'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'}
    network = openvino.compile_model(file, 'CPU', config)
    return lambda image: network(image)[0]


def load_executorch(file):
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(file)
    method = program.load_method('forward')
    return lambda image, kept=program: method.execute([torch.from_numpy(image)])[0].numpy()


def load_litert(file):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(file), num_threads=1).get_signature_runner()
    return lambda image: runner(args_0=image)['output_0']


def load_ncnn(folder):
    import ncnn

    net = load_ncnn_net(folder)
    return lambda image: run_ncnn(net, ncnn.Mat(image[0]))[None]


def load_ncnn_net(folder):
    """The network itself, for `run_ncnn`."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.load_param(f'{folder}/model.ncnn.param')
    net.load_model(f'{folder}/model.ncnn.bin')
    return net


def run_ncnn(net, mat):
    """The answer to a Mat, which refers to the memory of an image and does not keep it."""
    extractor = net.create_extractor()
    extractor.input('in0', mat)
    return np.array(extractor.extract('out0')[1])
