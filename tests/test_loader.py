"""DataLoader and ImageFolder: order, batches, folders, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnmath
from cnnmath import data, losses, nn, optim
from cnnmath.planner.random import shuffled


def arrays(n: int = 11) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(n, 1, 4, 4)).astype(np.float32)
    return x, np.arange(n) % 3


def test_batches_in_order() -> None:
    x, y = arrays()
    loader = data.DataLoader((x, y), batch_size=4)
    batches = list(loader)
    assert [len(b) for b, _ in batches] == [4, 4, 3] and len(loader) == 3
    np.testing.assert_array_equal(np.concatenate([b for b, _ in batches]), x)
    np.testing.assert_array_equal(np.concatenate([t for _, t in batches]), y)
    short = data.DataLoader((x, y), batch_size=4, drop_last=True)
    assert [len(b) for b, _ in short] == [4, 4] and len(short) == 2
    assert len(data.DataLoader((x, y), 11, drop_last=True)) == len(data.DataLoader((x, y), 11)) == 1
    assert list(data.DataLoader((x, y), 12, drop_last=True)) == []


def test_shuffling_depends_on_seed_and_epoch_alone() -> None:
    x, _ = arrays()
    numbers = np.arange(len(x))
    loader = data.DataLoader((x, numbers), 4, shuffle=True, seed=5)
    epochs = [np.concatenate([t for _, t in loader]) for _ in range(3)]
    for epoch, order in enumerate(epochs):
        np.testing.assert_array_equal(order, shuffled(len(x), 5, epoch))
    loader.epoch = 1
    np.testing.assert_array_equal(np.concatenate([t for _, t in loader]), epochs[1])
    cnnmath.manual_seed(5)
    other = data.DataLoader((x, numbers), 4, shuffle=True)
    np.testing.assert_array_equal(np.concatenate([t for _, t in other]), epochs[0])


def test_fit_takes_a_loader_and_gives_the_same_bits() -> None:
    x, y = arrays()
    weights = []
    for loader in (data.DataLoader((x, y), 4, shuffle=True, seed=3), None):
        cnnmath.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
        trainer = cnnmath.Trainer(
            model, optim.SGD(model, lr=0.1), losses.CrossEntropyLoss(), metrics=["accuracy"], seed=3
        )
        if loader is None:
            trainer.fit(x, y, batch_size=4, epochs=3, verbose=0)
        else:
            trainer.fit(loader, epochs=3, verbose=0)
            evaluated = trainer.evaluate(data.DataLoader((x, y), 4))
            assert evaluated["accuracy"] == trainer.evaluate(x, y)["accuracy"]
        weights.append(model.state_dict())
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name])


class Squares:
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.full((1, 2), index * index, np.float32), index


def test_data_sets_of_items() -> None:
    (x, y), (_, last) = data.DataLoader(Squares(), 3)
    assert x.shape == (3, 1, 2) and x.dtype == np.float32 and y.dtype == np.int64
    assert x[:, 0, 0].tolist() == [0, 1, 4] and last.tolist() == [3, 4]


def test_wrong_arguments() -> None:
    x, y = arrays()
    with pytest.raises(ValueError, match="batch_size expects an int of at least 1, got 0"):
        data.DataLoader((x, y), 0)
    for call in (
        lambda: data.DataLoader(x),
        lambda: data.DataLoader(x, y),  # type: ignore[arg-type]
        lambda: data.DataLoader(list(x), list(y)),  # type: ignore[arg-type]
    ):
        with pytest.raises(
            TypeError, match=r"expected one data set, .*DataLoader\(\(x, y\), batch_size=...\)"
        ):
            call()
    with pytest.raises(ValueError, match="one target for each sample"):
        data.DataLoader((x, y[1:]))
    with pytest.raises(TypeError, match="a data set with len\\(\\) and items, got generator"):
        data.DataLoader(i for i in range(3))
    with pytest.raises(ValueError, match=r"samples of one shape in a batch, got \(1,\), \(2,\)"):
        list(data.DataLoader([(np.zeros(1), 0), (np.zeros(2), 1), (np.zeros(1), 1)], 2))


def test_image_folder(tmp_path: Path, rng: np.random.Generator) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = rng.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    for i, name in enumerate(("dog/b.png", "dog/a.PNG", "cat/deep/x.png", "cat/y.png")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(pixels[i]).save(path)
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    folder = data.ImageFolder(tmp_path)
    assert folder.classes == ["cat", "dog"] and folder.class_to_idx == {"cat": 0, "dog": 1}
    assert [p.name for p, _ in folder.samples] == ["x.png", "y.png", "a.PNG", "b.png"]
    assert folder.targets == [0, 0, 1, 1] and len(folder) == 4
    x, y = folder.load()
    wanted = pixels[[2, 3, 1, 0]].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(x, wanted)
    assert y.tolist() == [0, 0, 1, 1] and y.dtype == np.int64
    grey = data.ImageFolder(tmp_path, lambda a: 1 - a, size=8, channels=1)
    (first, _), _ = data.DataLoader(grey, 3)
    assert first.shape == (3, 1, 8, 8)
    image.fromarray(pixels[0][:3]).save(tmp_path / "cat" / "z.png")
    with pytest.raises(ValueError, match="of one shape"):
        data.ImageFolder(tmp_path).load()
    (tmp_path / "cat" / "z.png").write_text("no image")
    with pytest.raises(ValueError, match=r"z\.png: cannot be read as an image"):
        data.ImageFolder(tmp_path).load()


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        data.ImageFolder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="has no folders, one for each class"):
        data.ImageFolder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(FileNotFoundError, match="cat has no images"):
        data.ImageFolder(tmp_path)
    with pytest.raises(ValueError, match="ImageFolder: size expects at least 1, got 0"):
        data.ImageFolder(tmp_path, size=0)
    with pytest.raises(
        TypeError, match="ImageFolder: expected a function as transform, got 32; size= goes by name"
    ):
        data.ImageFolder(tmp_path, 32)  # type: ignore[arg-type]
