"""Task 1: the equations as the code implements them, each with the kernel that computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastmlp.report.markup import Markup, code, paragraph, section, tag
from fastmlp.report.mathml import formula


@dataclass(frozen=True)
class Equation:
    """A step of training.

    Parameters
    ----------
    text : str
        What is computed.
    formulas : tuple of str
        In the notation of `fastmlp.report.mathml`.
    kernels : tuple of str
        Functions below ``fastmlp.kernels`` that compute it.
    """

    text: str
    formulas: tuple[str, ...]
    kernels: tuple[str, ...] = ()


SINGLE = (
    Equation(
        "Forward: an image x gives the pre-activations z and activations a of the hidden units j, and from these the "
        "logits of the classes k.",
        (
            "z_j = sum_i w_{j i} x_i + b_j",
            "a_j = f ( z_j )",
            "z_k = sum_j w_{k j} a_j + b_k",
        ),
    ),
    Equation(
        "With δ = ∂L/∂z, the chain rule gives the gradient of a weight, as z depends on it through one product only.",
        ("frac{d L}{d w_{j i}} = frac{d L}{d z_j} frac{d z_j}{d w_{j i}} = delta_j x_i",),
    ),
    Equation(
        "A hidden unit acts on the loss through all units of the next layer.",
        ("delta_j = frac{d a_j}{d z_j} sum_k frac{d z_k}{d a_j} delta_k = f ' ( z_j ) sum_k w_{k j} delta_k",),
    ),
    Equation(
        "Gradient descent with learning rate α moves each weight against its gradient.",
        ("w_{j i} <- w_{j i} - alpha delta_j x_i",),
    ),
)

BATCH = (
    Equation(
        "Forward, layer by layer; X has a row per image. The first layer skips pixels that are 0: with "
        "x = β + s, where s is 0 for them, the product with β is the same for all images. Later layers skip, where "
        "it pays, units that a ReLU has set to 0.",
        ("Z = X W + b", "A = f ( Z )", "X W + b = S W + ( beta W + b )"),
        (
            "dense.forward",
            "sparse.forward_inputs",
            "stretch.complete",
            "sparse.forward",
            "background.project",
            "activation.activate",
        ),
    ),
    Equation(
        "Logits, softmax and the mean cross-entropy of the B images n. Y has the labels as rows: 1 for the class of "
        "the image, 0 for the others. The largest logit is subtracted first, so that nothing overflows.",
        ("P = softmax ( A W + b )", "L = - frac{1}{B} sum_n sum_k y_{n k} log p_{n k}"),
        ("output.partial_logits", "output.softmax", "output.cross_entropy"),
    ),
    Equation(
        "Softmax and cross-entropy together have a simple derivative. Each row of Δ is the δ of one image; the mean "
        "over the batch brings in the 1/B below. The kernels multiply by −α/B at once, so that all sums below are "
        "already steps.",
        ("Delta_k = P - Y",),
        ("output.softmax", "output.cross_entropy"),
    ),
    Equation(
        "Back to the last hidden layer, and from each hidden layer to the one below; f′ is computed from the "
        "activation itself, and ⊙ multiplies element by element.",
        ("Delta_j = f ' ( Z_j ) odot ( Delta_k W_{j k}^T )",),
        (
            "output.input_gradient",
            "backpropagation.propagate_parts",
            "backpropagation.collect_parts",
            "activation.times_derivative",
        ),
    ),
    Equation(
        "The step of a hidden layer's weights (I×J), from its inputs X (B×I) and Δ of the hidden layer (B×J). "
        "Pixels that are 0 are skipped here as well; 1 is a column of ones, so 1ᵀΔ sums over the batch. What the "
        "background adds is the same row for all pixels, times β: it is kept aside and goes into the weights from time "
        "to time.",
        ("W <- W - frac{alpha}{B} X^T Delta_j", "X^T Delta_j = S^T Delta_j + beta^T 1^T Delta_j"),
        ("dense.weight_step", "sparse.step_inputs", "sparse.step_units", "background.fold"),
    ),
    Equation(
        "The step of the output weights (J×K), from the activations of the last hidden layer (the original calls "
        "them Z). Biases are weights of an input that is always 1.",
        ("W <- W - frac{alpha}{B} A^T Delta_k", "b <- b - frac{alpha}{B} 1^T Delta"),
        ("output.weight_step", "output.step_bias", "optimizer.step_row"),
    ),
    Equation(
        "Momentum μ: the step is added to a share of the one before.",
        (
            "v <- mu v - alpha frac{d L}{d W}",
            "W <- W + v",
        ),
        ("optimizer.begin", "optimizer.end"),
    ),
)

ACTIVATIONS = (
    Equation(
        "Sigmoid",
        (
            "f ( z ) = frac{1}{1 + e^{- z}}",
            "f ' ( z ) = a ( 1 - a )",
        ),
    ),
    Equation(
        "ReLU",
        (
            "f ( z ) = max ( 0 , z )",
            "f ' ( z ) = 1 if z > 0 else 0",
        ),
    ),
    Equation(
        "Improved sigmoid",
        (
            "f ( z ) = 1.7159 tanh ( 2 z / 3 )",
            "f ' ( z ) = frac{2}{3} ( 1.7159 - a^2 / 1.7159 )",
        ),
    ),
)


def task_1(_: object = None) -> Markup:
    """The section."""
    return section(
        "task-1",
        "Task 1: the mathematics",
        tag("h3", "a) One image, with indices"),
        paragraph("Inputs have the index i, hidden units j, classes k; w", tag("sub", "ji"), " leads from i to j."),
        *map(_equation, SINGLE),
        tag("h3", "b) A batch, with matrices, and where the code does it"),
        paragraph(
            "X is 1×I, or B×I for a batch of B images. fastmlp keeps weights with a row per input, I×J, so they "
            "stand on the right. The functions named are kernels in ",
            code("fastmlp/kernels"),
            "; all of them run within one compiled loop over the mini-batches, ",
            code("batch.train_batches"),
            ".",
        ),
        *map(_equation, BATCH),
        tag("h3", "Activation functions"),
        *map(_equation, ACTIVATIONS),
    )


def named_kernels() -> Sequence[str]:
    """All kernels that the section names."""
    return ("batch.train_batches", *(name for equation in BATCH for name in equation.kernels))


def _equation(equation: Equation) -> Markup:
    kernels = [part for name in equation.kernels for part in (", ", code(name))][1:]
    formulas = [tag("div", formula(text), class_="formula") for text in equation.formulas]
    return tag(
        "div",
        paragraph(equation.text),
        *formulas,
        paragraph("Kernels: " if len(equation.kernels) > 1 else "Kernel: ", *kernels, class_="kernels")
        if kernels
        else None,
        class_="equation",
    )
