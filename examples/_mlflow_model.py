"""How MLflow reads a model file: this file is stored beside it in place of a pickle ("models from
code"), so that a run holds data and these lines only."""

import mlflow
import pandas as pd

from sklearn_autorec.serving import load


class ModelFile(mlflow.pyfunc.PythonModel):
    """A file of ``sklearn_autorec.serving.save`` with MLflow's ``predict``."""

    def load_context(self, context):
        self.model = load(context.artifacts["model"])

    def predict(self, context, model_input, params=None):
        """Probabilities with a column a class; predictions of models without classes."""
        if not hasattr(self.model, "predict_proba"):
            return self.model.predict(model_input)
        p = self.model.predict_proba(model_input)
        return pd.DataFrame(p, columns=[str(label) for label in self.model.classes_])


mlflow.models.set_model(ModelFile())
