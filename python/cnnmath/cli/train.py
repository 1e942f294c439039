"""`cnnmath train`: trains a network on a data set and leaves a run folder."""

from __future__ import annotations

import argparse
import contextlib
import shutil
from pathlib import Path
from typing import Any

from .. import losses, metrics, models, nn, optim, regularizers
from .._arguments import real, whole
from ..callbacks import BackupAndRestore
from ..planner.random import manual_seed
from ..training import Trainer
from . import datasets, plot, resume, runs
from .options import set_threads, size, threads
from .watch import Diverged, Watch

OPTIMIZERS = ("sgd", "momentum", "adam", "adamw")
SCHEDULES = ("none", "step", "cosine", "onecycle")
_MODEL_OPTIONS = ("width", "dropout")


def _having(option: str) -> str:
    """The models with an option."""
    return ", ".join(name for name in models.names() if option in models.options(name))


def add(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="train a network",
        description="Trains a network, by default a small one on the 1,797 handwritten digits that come with the "
        "package (every fifth one is kept for the test), and writes a run folder: metrics.json, model.safetensors, "
        "model.json, classes.json, preprocessing.json, options.json. A training that was interrupted goes on with "
        "--resume, to the same bits as without the interruption.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    hidden: Any = argparse.SUPPRESS
    command.add_argument(
        "--data",
        type=datasets.known,
        default="digits",
        metavar="NAME|FOLDER",
        help=f"{', '.join(datasets.NAMES)}, or a folder of images, FOLDER/CLASS/IMAGE, of which every fifth one of "
        "a class is kept for the test, or FOLDER/train/CLASS/IMAGE and FOLDER/test/CLASS/IMAGE",
    )
    command.add_argument(
        "--root",
        type=Path,
        default=hidden,
        metavar="FOLDER",
        help="where the files of the data set are (default: CNNMATH_DATA)",
    )
    command.add_argument(
        "--image-size",
        type=size,
        default=hidden,
        metavar="N|HxW",
        help="of the images of a folder, which are resized (default: their own, or else 64)",
    )
    command.add_argument(
        "--channels",
        type=int,
        choices=(1, 3),
        default=hidden,
        help="of the images of a folder: 1 for grey, 3 for colours (default: as they are)",
    )
    command.add_argument(
        "--augment",
        choices=datasets.AUGMENTATIONS,
        nargs="?",
        const="auto",
        default="none",
        help="shift (crop) and mirror (flip) the training images at random, anew in each epoch; auto, or no word: "
        "crop for digits and mnist, flip for fashion-mnist, else crop-flip",
    )
    command.add_argument(
        "--model", choices=models.names(), default="small_cnn", metavar="NAME", help=", ".join(models.names())
    )
    command.add_argument(
        "--width",
        type=whole(1),
        default=hidden,
        metavar="N",
        help=f"channels of the first convolutions of {_having('width')} (default: 16)",
    )
    command.add_argument(
        "--dropout",
        type=real(False, 1),
        default=hidden,
        metavar="P",
        help=f"probability of dropout, for {_having('dropout')} (default: 0.25 for small_cnn, else 0)",
    )
    command.add_argument(
        "--epochs", type=whole(1), default=15, metavar="N", help="passes over the training images"
    )
    command.add_argument("--batch-size", type=whole(1), default=32, metavar="N", help="images of a step")
    command.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw", help="momentum is SGD with it")
    command.add_argument("--lr", type=real(True), default=0.01, metavar="X", help="the highest learning rate")
    command.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default="onecycle",
        help="of the learning rate; step divides it by 10 after each third of the epochs",
    )
    command.add_argument(
        "--momentum",
        type=real(False, 1),
        default=hidden,
        metavar="X",
        help="of the optimizer momentum (default: 0.9)",
    )
    command.add_argument(
        "--nesterov", action="store_true", default=hidden, help="Nesterov's form of the momentum"
    )
    command.add_argument(
        "--weight-decay",
        type=real(False),
        default=hidden,
        metavar="X",
        help="of the optimizer, for weights, neither biases nor BatchNorm (default: 0.01 for adamw, else 0)",
    )
    command.add_argument(
        "--l2", type=real(False), default=0.0, metavar="X", help="strength of a penalty on squared weights"
    )
    command.add_argument(
        "--label-smoothing",
        type=real(False, 1),
        default=0.0,
        metavar="X",
        help="part of each target that is shared among all classes",
    )
    command.add_argument(
        "--validation",
        type=real(False, 1),
        default=0.0,
        metavar="X",
        help="part of the training images that is kept to watch the training, to choose other options by",
    )
    command.add_argument(
        "--seed",
        type=whole(0, 2**64 - 1),
        default=0,
        metavar="N",
        help="of initial weights, order, augmentation and dropout",
    )
    threads(command)
    command.add_argument(
        "--out",
        type=Path,
        default=hidden,
        metavar="FOLDER",
        help="the run folder, new or empty (default: runs/digits, runs/digits-2, ...)",
    )
    command.add_argument(
        "--resume",
        type=Path,
        default=hidden,
        metavar="RUN",
        help="go on with the training of a run folder, with its options, after the last epoch that it noted; a larger "
        "--epochs trains further where the run has --schedule none",
    )
    command.set_defaults(run=run, error=command.error)


def run(options: argparse.Namespace) -> None:
    if hasattr(options, "resume"):
        found = resume.options_of(options)
        if found is None:
            return
        options, folder = found, found.resume
    else:
        _check(options)
        folder = runs.new_folder(getattr(options, "out", None), Path(options.data).name or "images")
    set_threads(options)
    checkpoint = folder / resume.CHECKPOINT
    try:
        _train(options, folder)
    except BaseException as error:
        if not (checkpoint.exists() or (folder / "model.safetensors").exists() or hasattr(options, "resume")):
            shutil.rmtree(folder)  # it was new, and nothing was achieved: leave no trace
        if isinstance(error, KeyboardInterrupt) and checkpoint.exists():
            raise KeyboardInterrupt(f"go on with {resume.command(folder)}") from None
        raise


def _check(options: argparse.Namespace) -> None:
    """Exits where options do not fit each other."""
    if options.optimizer != "momentum":
        for name in ("momentum", "nesterov"):
            if hasattr(options, name):
                options.error(f"--{name} needs --optimizer momentum, got {options.optimizer}")
    for name in _MODEL_OPTIONS:
        if hasattr(options, name) and name not in models.options(options.model):
            options.error(f"--{name} is for {_having(name)}, not for {options.model}")
    images = options.data not in datasets.NAMES
    for name in ("image_size", "channels"):
        if hasattr(options, name) and not images:
            options.error(f"--{name.replace('_', '-')} is for folders of images, got --data {options.data}")
    if images and hasattr(options, "root"):
        options.error("--root is for data sets by name, got a folder of images as --data")


def _train(options: argparse.Namespace, folder: Path) -> None:
    train, test, names = datasets.read(
        options.data,
        getattr(options, "root", None),
        getattr(options, "channels", None),
        getattr(options, "image_size", None),
    )
    options.images = resume.same_images(options, len(train.images))
    validation = None
    if options.validation:
        train, validation = datasets.held_out(train, options.validation)
    preprocessing = datasets.preprocessing(options.data, train.images)
    x, x_test = (preprocessing.normalized(part.images) for part in (train, test))
    if validation is not None:
        preprocessing.normalized(validation.images)
    settings: dict[str, Any] = {
        "name": options.model,
        "num_classes": len(names),
        "in_channels": preprocessing.channels,
        "image_size": [preprocessing.height, preprocessing.width],
        **{name: getattr(options, name) for name in _MODEL_OPTIONS if hasattr(options, name)},
    }
    manual_seed(options.seed)
    model = models.create(**settings)
    optimizer = _optimizer(options, model)
    penalties = [regularizers.L2(options.l2)] if options.l2 else []
    loss = losses.CrossEntropyLoss(label_smoothing=options.label_smoothing)
    trainer = Trainer(model, optimizer, loss, penalties, metrics=["accuracy"])
    schedule = _schedule(options, optimizer, -(-len(x) // options.batch_size))
    shape = f"{preprocessing.height} x {preprocessing.width}"
    colours = "grey" if preprocessing.channels == 1 else "colour"
    print(
        f"Training on {len(x)} {colours} images of {len(names)} classes, {shape}, testing on {len(x_test)}",
        flush=True,
    )
    if options.batch_size > len(x):
        print(
            f"A batch of {options.batch_size} is more than there are: an epoch is one step of {len(x)} images"
        )
    augment = datasets.augmentation(options.data, options.augment)
    resume.note(folder, options)
    watch = Watch()
    diverged = _fit(
        trainer,
        folder,
        watch,
        x=x,
        y=train.target,
        batch_size=options.batch_size,
        epochs=options.epochs,
        callbacks=schedule,
        validation_data=validation,
        augment=datasets.transform(augment, preprocessing),
    )
    tested = trainer.evaluate(x_test, test.target)
    logits = trainer.predict(x_test)
    counts = metrics.confusion_matrix(logits, test.target, len(names))
    print(f"\nTest accuracy: {100 * tested['accuracy']:.2f} %  (trained in {watch.seconds:.1f} s)\n")
    print(runs.table(counts, names))

    # As they were used: every option, those with a default of their optimizer's too.
    chosen = {
        key: getattr(options, key)
        for key in (
            "model",
            "epochs",
            "batch_size",
            "optimizer",
            "lr",
            "schedule",
            "l2",
            "label_smoothing",
            "validation",
            "seed",
        )
    }
    chosen["augment"] = augment
    for key in ("momentum", "nesterov", "weight_decay"):
        if key in optimizer.defaults:
            chosen[key] = optimizer.defaults[key]
    history = trainer.history.history
    numbers = {
        "test_accuracy": tested["accuracy"],
        "test_loss": tested["loss"],
        "train_accuracy": history["accuracy"][-1],
        "train_loss": history["loss"][-1],
        **{
            f"validation_{name}": history[f"val_{name}"][-1]
            for name in ("accuracy", "loss")
            if f"val_{name}" in history
        },
        "seconds": watch.seconds,
        "data": options.data,
        "settings": chosen,
        "history": history,
        "confusion_matrix": counts.tolist(),
        **({"diverged": str(diverged)} if diverged else {}),
    }
    runs.write(folder, model, settings, preprocessing, names, numbers)
    if options.schedule != "none":
        (folder / resume.CHECKPOINT).unlink(missing_ok=True)  # no further epochs can come
    print(f"\nWritten to {folder}", flush=True)
    plot.after_training(folder, test, logits)
    if diverged:
        done = len(trainer.history.epoch)
        raise ValueError(
            f"the training diverged: {diverged}; {folder} has the weights after epoch {done}, a lower --lr may help"
        )


def _fit(
    trainer: Trainer, folder: Path, watch: Watch, callbacks: list[Any], **options: Any
) -> Diverged | None:
    """Trains, from where the checkpoint stands if there is one. Of a training that diverges the last epoch before
    that is what stays, and why it ended is the result; ValueError where there was no such epoch."""
    checkpoint = folder / resume.CHECKPOINT
    try:
        backup = BackupAndRestore(folder, delete_checkpoint=False)
        trainer.fit(**options, callbacks=[*callbacks, watch, backup])
    except KeyboardInterrupt:
        if watch.steps:
            # A second Ctrl-C may have come within a step; the checkpoint before holds.
            with contextlib.suppress(RuntimeError, OSError):
                trainer.save_checkpoint(checkpoint)  # with the steps of this epoch
        raise
    except Diverged as diverged:
        if not checkpoint.exists():
            raise ValueError(
                f"the training diverged: {diverged}; nothing is kept, a lower --lr may help"
            ) from None
        trainer.load_checkpoint(checkpoint)
        return diverged
    return None


def _optimizer(options: argparse.Namespace, model: nn.Module) -> optim.Optimizer:
    named = list(model.named_parameters())
    rest = [(name, p) for name, p in named if not regularizers.is_weight(name, p)]
    groups = [
        {"params": [(name, p) for name, p in named if regularizers.is_weight(name, p)]},
        {"params": rest, "weight_decay": 0.0},  # biases, and BatchNorm's scales and shifts
    ]
    more = {"weight_decay": options.weight_decay} if hasattr(options, "weight_decay") else {}
    if options.optimizer == "adam":
        return optim.Adam(groups, lr=options.lr, **more)
    if options.optimizer == "adamw":
        return optim.AdamW(groups, lr=options.lr, **more)
    if options.optimizer == "sgd":
        return optim.SGD(groups, lr=options.lr, **more)
    momentum = getattr(options, "momentum", 0.9)
    return optim.SGD(
        groups, lr=options.lr, momentum=momentum, nesterov=getattr(options, "nesterov", False), **more
    )


def _schedule(options: argparse.Namespace, optimizer: optim.Optimizer, steps_per_epoch: int) -> list[Any]:
    if options.schedule == "step":
        return [optim.schedules.StepLR(optimizer, -(-options.epochs // 3))]
    if options.schedule == "cosine":
        return [optim.schedules.CosineAnnealingLR(optimizer, options.epochs)]
    if options.schedule == "onecycle":
        # A momentum that was asked for stays; Adam's goes the other way than lr.
        cycle = options.optimizer in ("adam", "adamw")
        return [
            optim.schedules.OneCycleLR(
                optimizer,
                options.lr,
                epochs=options.epochs,
                steps_per_epoch=steps_per_epoch,
                cycle_momentum=cycle,
            )
        ]
    return []
