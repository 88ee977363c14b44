"""Models to time, as folders that this project reads and as ONNX graphs of the same arithmetic."""

import json
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

EPSILON = 0.1


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """The decoder's tensors."""
    sizes = config["dvae"]
    n_in, found = sizes["n_init"], {}

    def conv(name: str, n_in: int, n_out: int, side: int) -> None:
        found[f"{name}.w"], found[f"{name}.b"] = (n_out, n_in, side, side), (n_out,)

    conv("input", sizes["vocab"], n_in, 1)
    for group, factor in enumerate((8, 4, 2, 1)):
        n_out = factor * sizes["n_hid"]
        for place in range(sizes["blocks_per_group"]):
            block, hidden = f"groups.{group}.{place}", n_out // 4
            if n_in != n_out:
                conv(f"{block}.id_path", n_in, n_out, 1)
            for i, (a, b, side) in enumerate([(n_in, hidden, 1), (hidden, hidden, 3), (hidden, hidden, 3), (hidden, n_out, 3)]):
                conv(f"{block}.res_path.conv_{i + 1}", a, b, side)
            n_in = n_out
    conv("output", n_in, 6, 1)
    return found


def weights(config: dict) -> dict[str, np.ndarray]:
    """Random weights in f16 that give images with contrast."""
    random = np.random.default_rng(0)
    layers = 4 * config["dvae"]["blocks_per_group"]
    found = {}
    for name, shape in shapes(config).items():
        scale = 0.2 if len(shape) == 1 else (2 / np.prod(shape[1:])) ** 0.5
        if name == "input.w":
            scale = 1
        if name.endswith("conv_4.w"):
            scale *= layers**2 / 4
        found[name] = (random.standard_normal(shape) * scale).astype(np.float16)
    return found


def write(config: dict, folder: str) -> None:
    """A folder with a configuration and random weights of its decoder."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)
    save_file(weights(config), os.path.join(folder, "decoder.safetensors"))


def models(work: str) -> list[tuple[str, str]]:
    """Name and folder of each model to time: a small one of 128×128 pixels, and two larger ones of 256×256."""
    configs = [json.load(open("configs/emoji-128.json"))]
    for n_hid in (32, 64):
        config = json.load(open("configs/bench.json"))
        config["name"] = f"n_hid-{n_hid}"
        config["dvae"] |= {"n_hid": n_hid, "n_init": 128}
        configs.append(config)
    found = []
    for config in configs:
        folder = os.path.join(work, config["name"])
        write(config, folder)
        found.append((config["name"], folder))
    return found


def graph(folder: str) -> bytes:
    """The decoder as an ONNX graph: tokens [grid²] int64 → RGBA bytes [8·grid, 8·grid, 4].

    As here, the first convolution is a look-up, and ReLU, conv_1 and id_path run before the upsampling, with which they commute.
    """
    config = json.load(open(os.path.join(folder, "config.json")))
    tensors = {name: w.astype(np.float32) for name, w in load_file(os.path.join(folder, "decoder.safetensors")).items()}
    grid, size = config["image_size"] // 8, config["image_size"]
    nodes, constants, count = [], {}, 0

    def constant(value: np.ndarray) -> str:
        name = f"c{len(constants)}"
        constants[name] = value
        return name

    def node(op: str, *inputs: str, **attributes) -> str:
        nonlocal count
        count += 1
        nodes.append(helper.make_node(op, list(inputs), [f"t{count}"], **attributes))
        return f"t{count}"

    def conv(name: str, x: str, gain: float = 1.0) -> str:
        w, b = tensors[f"{name}.w"] * np.float32(gain), tensors[f"{name}.b"] * np.float32(gain)
        pad = w.shape[2] // 2
        return node("Conv", x, constant(w), constant(b), kernel_shape=list(w.shape[2:]), pads=[pad] * 4)

    def upsample(x: str) -> str:
        scales = constant(np.array([1, 1, 2, 2], np.float32))
        return node("Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    gain = 1 / (4 * config["dvae"]["blocks_per_group"]) ** 2
    table = np.ascontiguousarray(tensors["input.w"][:, :, 0, 0].T) + tensors["input.b"]
    x = node("Gather", constant(table), "tokens", axis=0)
    x = node("Reshape", node("Transpose", x, perm=[1, 0]), constant(np.array([1, -1, grid, grid], np.int64)))
    for group in range(4):
        for place in range(config["dvae"]["blocks_per_group"]):
            name = f"groups.{group}.{place}"
            res = conv(f"{name}.res_path.conv_1", node("Relu", x))
            identity = conv(f"{name}.id_path", x) if f"{name}.id_path.w" in tensors else x
            if group > 0 and place == 0:
                res, identity = upsample(res), upsample(identity)
            res = conv(f"{name}.res_path.conv_2", node("Relu", res))
            res = conv(f"{name}.res_path.conv_3", node("Relu", res))
            x = node("Add", identity, conv(f"{name}.res_path.conv_4", node("Relu", res), gain))
    # Half of the output, the widths of the distribution, has no part in the image.
    tensors["output.w"], tensors["output.b"] = tensors["output.w"][:3], tensors["output.b"][:3]
    x = node("Sigmoid", conv("output", node("Relu", x)))
    scale = 255 / (1 - 2 * EPSILON)
    x = node("Add", node("Mul", x, constant(np.float32(scale))), constant(np.float32(0.5 - scale * EPSILON)))
    x = node("Clip", x, constant(np.float32(0)), constant(np.float32(255)))
    x = node("Cast", node("Transpose", x, perm=[0, 2, 3, 1]), to=TensorProto.UINT8)
    x = node("Concat", x, constant(np.full((1, size, size, 1), 255, np.uint8)), axis=3)
    made = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, [grid * grid])],
        [helper.make_tensor_value_info(x, TensorProto.UINT8, [1, size, size, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def tokens(folder: str) -> np.ndarray:
    """A grid of tokens."""
    config = json.load(open(os.path.join(folder, "config.json")))
    length = (config["image_size"] // 8) ** 2
    return (np.arange(length, dtype=np.int64) * 31) % config["dvae"]["vocab"]


def check_alike(ours: np.ndarray, theirs: np.ndarray, name: str) -> int:
    """Greatest difference of two images, at most 1; they must have contrast."""
    contrast = int(theirs.max()) - int(theirs.min())
    assert contrast > 100, f"{name}: the image is too flat to compare, {contrast}"
    difference = int(np.abs(ours.astype(int) - theirs.astype(int)).max())
    assert difference <= 1, f"{name}: the images differ by {difference} of 255"
    return difference
