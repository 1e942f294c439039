"""Pictures of a training, with matplotlib, which is an extra: `pip install "cnnmath[viz]"`.

Each function gives a `matplotlib.figure.Figure`; `figure.savefig("name.png")` writes it. pyplot stays out of it: no
window, no global figure, no choice of a backend. (In a notebook, `%matplotlib inline` makes figures appear.)

    history = trainer.fit(x_train, y_train, validation_data=(x_test, y_test), epochs=5)
    logits = trainer.predict(x_test)
    viz.curves(history).savefig("curves.png")
    viz.confusion_matrix(metrics.confusion_matrix(logits, y_test), names).savefig("confusion_matrix.png")
    viz.filters(model[0].weight).savefig("filters.png")
    viz.mistakes(x_test, y_test, F.softmax(logits, 1), names).savefig("mistakes.png")
"""

from .history import curves
from .images import mistakes
from .matrix import confusion_matrix
from .weights import filters

__all__ = ["confusion_matrix", "curves", "filters", "mistakes"]
