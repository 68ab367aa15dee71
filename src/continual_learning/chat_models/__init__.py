"""Chat models, wherever they run: the loaded base, an Ollama server, an OpenAI-compatible one.

protocol.py         what all of them can do
in_process.py       the base itself, with decoding that can only write valid JSON
json_constraint.py  that decoding
ollama_server.py    an Ollama server, through its own package
openai_server.py    any server of OpenAI's protocol, through that package
llama_cpp.py        a GGUF file, through llama-cpp-python
named.py            these three by name: ollama:NAME, openai:URL#NAME, llamacpp:FILE.gguf
servers.py          what both servers share: addresses, retries, secrets, health
json_output.py      JSON from any of them: parsed, repaired, requested again, or reported as a failure
"""

from continual_learning.chat_models.in_process import InProcessModel
from continual_learning.chat_models.json_output import JSONRequest, JSONResult, ask_json
from continual_learning.chat_models.llama_cpp import LlamaCppModel
from continual_learning.chat_models.named import Connection, named_model
from continual_learning.chat_models.ollama_server import OllamaModel
from continual_learning.chat_models.openai_server import OpenAIModel
from continual_learning.chat_models.protocol import ChatModel, ChatReply, ChatRequest
from continual_learning.chat_models.servers import ServerSettings

__all__ = [
    "ChatModel",
    "ChatReply",
    "ChatRequest",
    "Connection",
    "InProcessModel",
    "JSONRequest",
    "JSONResult",
    "LlamaCppModel",
    "OllamaModel",
    "OpenAIModel",
    "ServerSettings",
    "ask_json",
    "named_model",
]
