"""MLServer: a custom runtime. It reads its annotations when it runs, so they are no strings here."""

import base64

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from served import Served, picture


class Runtime(MLModel):
    """One model, with KServe's V2 protocol."""

    async def load(self) -> bool:
        """Compile it."""
        self._served = Served(self.name)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Infer on the first input."""
        first = payload.inputs[0]
        is_picture = self._served.takes_pictures
        x = picture(base64.b64decode(first.data[0]))[None] if is_picture else NumpyCodec.decode_input(first)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", self._served(x))])
