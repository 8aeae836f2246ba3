"""What transformers makes of the tiny models, to compare SGLang's numbers with. Runs in the engine environment.

python tests/engine/reference.py embed MODEL '{"texts": ["a", "b"]}'        # prints JSON
"""

from __future__ import annotations

import json
import sys
from typing import Any

import soundfile
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoProcessor,
    AutoTokenizer,
    Qwen3ASRForConditionalGeneration,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)


def complete(model: str, prompts: list[str], tokens: int) -> list[str]:
    """What it goes on with, greedily."""
    tokenizer, net = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    said = []
    for prompt in prompts:
        begun = tokenizer(prompt, return_tensors="pt").input_ids
        made = net.generate(begun, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        said.append(tokenizer.decode(made[0, begun.shape[1] :], skip_special_tokens=True))
    return said


def embed(model: str, texts: list[str]) -> list[list[float]]:
    """The last token's hidden state, of length 1."""
    tokenizer, net = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model).model
    states = [net(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, -1] for text in texts]
    return [torch.nn.functional.normalize(state, dim=0).tolist() for state in states]


def encode(model: str, texts: list[str]) -> list[list[float]]:
    """The first token's hidden state, of length 1: what encoders are trained for."""
    tokenizer, net = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model)
    states = [net(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0] for text in texts]
    return [torch.nn.functional.normalize(state, dim=0).tolist() for state in states]


def rerank(model: str, query: str, documents: list[str]) -> list[float]:
    """One logit for each pair."""
    tokenizer, net = AutoTokenizer.from_pretrained(model), AutoModelForSequenceClassification.from_pretrained(model)
    pairs = [tokenizer(query, document, return_tensors="pt", return_token_type_ids=True) for document in documents]
    return [net(**pair).logits[0, 0].item() for pair in pairs]


def classify(model: str, texts: list[str]) -> list[list[float]]:
    """A probability for each class."""
    tokenizer, net = AutoTokenizer.from_pretrained(model), AutoModelForSequenceClassification.from_pretrained(model)
    return [net(**tokenizer(text, return_tensors="pt")).logits[0].softmax(0).tolist() for text in texts]


def score(model: str, query: str, items: list[str], labels: list[int]) -> list[list[float]]:
    """The next token's probabilities, among the labels only."""
    tokenizer, net = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    logits = [net(**tokenizer(query + item, return_tensors="pt")).logits[0, -1] for item in items]
    return [one[labels].softmax(0).tolist() for one in logits]


def transcribe(model: str, file: str) -> str:
    """Greedy, in English, without time stamps."""
    processor, net = WhisperProcessor.from_pretrained(model), WhisperForConditionalGeneration.from_pretrained(model)
    sound, rate = soundfile.read(file, dtype="float32")
    features = processor(sound, sampling_rate=rate, return_tensors="pt").input_features
    words = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    tokens = torch.tensor([processor.tokenizer.convert_tokens_to_ids(words)])
    for _ in range(16):
        following = net(input_features=features, decoder_input_ids=tokens).logits[0, -1].argmax()
        tokens = torch.cat([tokens, following.view(1, 1)], dim=1)
    return str(processor.tokenizer.decode(tokens[0, len(words) :], skip_special_tokens=True))


def hear(model: str, file: str, tokens: int) -> str:
    """What Qwen3-ASR hears, greedily. SGLang fills the sound up to 30 seconds of silence."""
    processor = AutoProcessor.from_pretrained(f"{model}/hf")
    net = Qwen3ASRForConditionalGeneration.from_pretrained(f"{model}/hf")
    sound, _ = soundfile.read(file, dtype="float32")
    begun = "<|im_start|>user\n<|audio_start|><|audio_pad|><|audio_end|><|im_end|>\n<|im_start|>assistant\n"
    given = processor(text=[begun], audio=[sound], audio_kwargs={"padding": "max_length"})
    made = net.generate(**given, max_new_tokens=tokens, do_sample=False)
    return str(processor.decode(made[0, given["input_ids"].shape[1] :], skip_special_tokens=True))


def see(model: str, image: str, text: str, tokens: int) -> str:
    """What it says of an image, greedily."""
    processor, net = AutoProcessor.from_pretrained(model), AutoModelForImageTextToText.from_pretrained(model)
    talk = [{"role": "user", "content": [{"type": "image", "path": image}, {"type": "text", "text": text}]}]
    how = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    given = processor.apply_chat_template(talk, **how)
    made = net.generate(**given, max_new_tokens=tokens, do_sample=False)
    return str(processor.decode(made[0, given["input_ids"].shape[1] :], skip_special_tokens=True))


def main() -> None:
    task, model, given = sys.argv[1:]
    arguments: dict[str, Any] = json.loads(given)
    with torch.inference_mode():
        print(json.dumps(globals()[task](model, **arguments)))


if __name__ == "__main__":
    main()
