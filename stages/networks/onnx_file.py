"""ONNX files whose bytes depend on the network alone.

The converter goes through sets, and numbers what it makes as it comes: so two runs give the same
network in another order, under other names. Here its parts are ordered from the outputs back to the
inputs, and named after their place in that order. What it simplifies also follows the hashes of
names: dvc.yaml fixes PYTHONHASHSEED for that.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

OUTPUT = "probabilities"


def tidy(path: Path) -> None:
    """Orders and names the parts of the ONNX file `path` anew.

    It takes images as before, and its output becomes `probabilities`.
    """
    import onnx

    model = onnx.load(path)
    model.ClearField("doc_string")
    model.ClearField("metadata_props")
    [output] = model.graph.output
    names = {each.name: each.name for each in model.graph.input} | {output.name: OUTPUT}
    model.graph.name = "model"
    _write_erfc_by_erf(model.graph)
    _tidy_graph(model.graph, names, "")
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _write_erfc_by_erf(graph: Any) -> None:
    """Gives `graph` an operation that ONNX has, in place of the one in Keras's `gelu`."""
    from onnx import helper, numpy_helper

    for node in [node for node in graph.node if node.op_type == "Erfc"]:
        one, erf = (f"{node.output[0]}/{part}" for part in ("one", "erf"))
        graph.initializer.append(numpy_helper.from_array(np.ones((), np.float32), one))
        graph.node.append(helper.make_node("Erf", node.input, [erf]))
        node.op_type, node.input[:] = "Sub", [one, erf]


def _tidy_graph(graph: Any, names: dict[str, str], prefix: str) -> None:
    """Orders and names what is in `graph`, or in one that a node of it holds.

    Args:
        graph: The graph, which is changed.
        names: The new names of what is known outside it; those of its own are added.
        prefix: Begins the names of its nodes.
    """
    weights = {weight.name: weight for weight in graph.initializer}
    nodes, used, counts = _order(graph), [], Counter[str]()
    for node in nodes:
        counts[node.op_type] += 1
        node.name = f"{prefix}{node.op_type}_{counts[node.op_type]}"
        node.ClearField("doc_string")
        for place, name in enumerate(_needs(node)):
            if name in weights and name not in names:
                names[name] = f"{node.name}/input_{place}"
                used.append(weights[name])
        for place, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}/output_{place}" if name else "")
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        attributes = sorted(map(_copy, node.attribute), key=lambda each: str(each.name))
        del node.attribute[:]
        node.attribute.extend(attributes)
        for inner in _graphs(node):
            inner.name = f"{node.name}/{inner.name.partition('_')[0]}"
            names |= {x.name: f"{node.name}/value_{i}" for i, x in enumerate(inner.input)}
            _tidy_graph(inner, names, f"{node.name}/")
    ordered, kept = list(map(_copy, nodes)), list(map(_copy, used))
    for weight in kept:
        weight.name = names[weight.name]
    for field, values in (("node", ordered), ("initializer", kept), ("value_info", [])):
        graph.ClearField(field)
        getattr(graph, field).extend(values)
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = "batch"
    graph.ClearField("doc_string")


def _order(graph: Any) -> list[Any]:
    """Returns the nodes that the outputs need, each after those that it needs itself."""
    maker = {name: node for node in graph.node for name in node.output}
    ordered, done = [], set()
    stack = [output.name for output in reversed(graph.output)]
    while stack:
        node = maker.get(stack[-1])
        if node is None or node.output[0] in done:
            stack.pop()
            continue
        waits = [name for name in _needs(node) if name in maker]
        waits = [name for name in waits if maker[name].output[0] not in done]
        if waits:
            stack += reversed(waits)
        else:
            ordered.append(node)
            done.add(node.output[0])
    return ordered


def _needs(node: Any) -> list[str]:
    """Returns the names that `node` reads, those in the graphs that it holds included."""
    found = list(node.input)
    for graph in _graphs(node):
        own = {name for each in graph.node for name in each.output}
        own |= {each.name for each in (*graph.input, *graph.initializer)}
        read = [name for each in graph.node for name in _needs(each)]
        found += [n for n in (*read, *(each.name for each in graph.output)) if n not in own]
    return found


def _graphs(node: Any) -> list[Any]:
    return [each.g for each in node.attribute if each.type == each.GRAPH]


def _copy(message: Any) -> Any:
    # What is deleted from a list of protobuf's is gone: it goes back in as a copy.
    return type(message).FromString(message.SerializeToString())
