"""Tiny real models, made on the spot: 140 KB, load in a moment, answer with noise.

In: a path, a seed. Out: a GGUF file that llama.cpp loads. The recipe is FACTS' (arch llama, one
layer, SPM vocabulary of 3 + 256 byte + 95 ASCII tokens, f32 random weights); one that only embeds
is of arch bert, with a vocabulary of 5 + 26 tokens.
"""

from pathlib import Path

import numpy as np
from gguf import GGUFWriter, PoolingType

HEADS = 4
FEED_FORWARD = 64


def write_tiny_gguf(
    path: Path, *, seed: int = 0, width: int = 32, context: int = 2048, per_shard: int = 0
) -> Path:
    """Write the model and return its path.

    With so many tensors `per_shard` it becomes `NAME-00001-of-0000N.gguf` and so on, beside `path`.
    """
    random = np.random.default_rng(seed)
    tokens = [b"<unk>", b"<s>", b"</s>"] + [f"<0x{byte:02X}>".encode() for byte in range(256)]
    tokens += ["\u2581".encode() if code == 32 else bytes([code]) for code in range(32, 127)]
    writer = GGUFWriter(str(path), "llama", split_max_tensors=per_shard)
    writer.add_name(path.stem)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(rank) for rank in range(95)])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * 95)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    shapes = {
        "token_embd": (len(tokens), width),
        "output": (len(tokens), width),
        "blk.0.attn_q": (width, width),
        "blk.0.attn_k": (width, width),
        "blk.0.attn_v": (width, width),
        "blk.0.attn_output": (width, width),
        "blk.0.ffn_gate": (FEED_FORWARD, width),
        "blk.0.ffn_up": (FEED_FORWARD, width),
        "blk.0.ffn_down": (width, FEED_FORWARD),
    }
    for name, shape in shapes.items():
        weights = (random.standard_normal(shape) * 0.05).astype(np.float32)
        writer.add_tensor(f"{name}.weight", weights)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    return _written(writer, path)


def write_tiny_embedder(path: Path, *, width: int = 32) -> Path:
    """Write a model that makes no tokens, as bge and nomic-embed are, and return its path."""
    random = np.random.default_rng(0)
    tokens = [b"[PAD]", b"[UNK]", b"[CLS]", b"[SEP]", b"[MASK]"]
    tokens += [b"\xe2\x96\x81" + bytes([code]) for code in range(97, 123)]
    writer = GGUFWriter(str(path), "bert")
    writer.add_name(path.stem)
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(PoolingType.MEAN)
    writer.add_token_type_count(2)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("bert")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 5 + [1] * 26)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    shapes = {
        "token_embd": (len(tokens), width),
        "token_types": (2, width),
        "position_embd": (512, width),
        "blk.0.attn_q": (width, width),
        "blk.0.attn_k": (width, width),
        "blk.0.attn_v": (width, width),
        "blk.0.attn_output": (width, width),
        "blk.0.ffn_up": (FEED_FORWARD, width),
        "blk.0.ffn_down": (width, FEED_FORWARD),
    }
    for name, shape in shapes.items():
        weights = (random.standard_normal(shape) * 0.05).astype(np.float32)
        writer.add_tensor(f"{name}.weight", weights)
        if name.startswith("blk."):
            writer.add_tensor(f"{name}.bias", np.zeros(shape[0], np.float32))
    for name in ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(width, np.float32))
    return _written(writer, path)


def _written(writer: GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
