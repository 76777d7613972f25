"""``fastmlp inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastmlp.cli.base import Command
from fastmlp.cli.models import load_model, model_argument, run_record
from fastmlp.cli.options import json_option
from fastmlp.cli.output import describe_network, percent, print_columns, print_fields, print_json, seconds

if TYPE_CHECKING:
    from fastmlp.network import Network


@click.command(
    cls=Command,
    examples=[
        ("fastmlp inspect runs/NAME", "a run folder"),
        ("fastmlp inspect model.safetensors --json", "a model file; as JSON"),
    ],
)
@model_argument()
@json_option()
def inspect(model: Path, as_json: bool) -> None:
    """Show what is inside a model file.

    MODEL is a run folder or a model file: layers, parameters, standardisation of the inputs, statistics of
    the weights, and, if the run folder's config.json is beside it, how it was trained.
    """
    network = load_model(model)
    record = run_record(model)
    layers = _layers(network)
    if as_json:
        print_json({"command": "inspect", **_description(network), "layers": layers, "training": record or None})
        return
    print_fields(_fields(network))
    click.echo()
    print_columns(
        ("layer", "inputs", "outputs", "parameters", "activation", "weights: mean", "std", "largest"),
        [
            (
                str(layer["layer"]),
                f"{layer['inputs']:,}",
                f"{layer['outputs']:,}",
                f"{layer['parameters']:,}",
                layer["activation"],
                f"{layer['mean']:.4f}",
                f"{layer['std']:.4f}",
                f"{layer['largest']:.4f}",
            )
            for layer in layers
        ],
    )
    training = _training_fields(record)
    if training:
        click.echo()
        print_fields(training)


def _description(network: Network) -> dict[str, Any]:
    """Return what holds for the whole network, in the terms of JSON."""
    return {
        "parameters": network.n_parameters,
        "features": network.n_features,
        "classes": network.n_classes,
        "activation": network.activation,
        "init": network.init,
        "seed": network.seed,
        "dtype": network.dtype.name,
        "mean": network.mean,
        "std": network.std,
    }


def _fields(network: Network) -> list[tuple[str, str]]:
    """Return what holds for the whole network, for people."""
    per_feature = network.mean.ndim > 0 or network.std.ndim > 0
    scaling = "per feature" if per_feature else f"(x - {float(network.mean):.6g}) / {float(network.std):.6g}"
    return [
        ("Network", describe_network(network.layers, network.activation)),
        ("Parameters", f"{network.n_parameters:,}"),
        ("Numbers", network.dtype.name),
        ("Initial weights", f"{network.init}, seed {network.seed}"),
        ("Standardisation", scaling),
    ]


def _layers(network: Network) -> list[dict[str, Any]]:
    """Return what there is to say about each layer."""
    last = len(network.weights)
    return [
        {
            "layer": index,
            "inputs": weights.shape[0],
            "outputs": weights.shape[1],
            "parameters": weights.size + biases.size,
            "activation": "softmax" if index == last else network.activation,
            "mean": float(weights.mean()),
            "std": float(weights.std()),
            "largest": float(abs(weights).max()),
        }
        for index, (weights, biases) in enumerate(zip(network.weights, network.biases, strict=True), start=1)
    ]


def _training_fields(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a run's record says about the training, leaving out whatever a foreign file may lack."""
    fields = []
    try:
        settings, result, data = record["settings"], record["result"], record["data"]
        fields.append(("Trained", f"{record['finished']}, {record['status']}"))
        fields.append(
            (
                "Data",
                f"{data['name']}, {data['train_samples']:,} samples, fingerprint {data['fingerprint'][:16]}",
            )
        )
        schedule = f"{settings['schedule']} schedule, momentum {settings['momentum']:g}, l2 {settings['l2']:g}"
        fields.append(("Descent", f"batch {settings['batch_size']}, rate {settings['learning_rate']:g}, {schedule}"))
        fields.append(("Epochs", f"{result['epochs']} in {seconds(result['training_seconds'])}"))
        fields.append(("Test accuracy", percent(result["test_accuracy"])))
        fields.append(("Machine", f"{record['machine']['cpu']}, {result['threads']} threads"))
        fields.append(("Versions", ", ".join(f"{name} {version}" for name, version in record["versions"].items())))
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    return fields
