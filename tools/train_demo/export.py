#!/usr/bin/env python3
"""Writes trained weights as a Hugging Face folder that transformers and gimbal read.

    tools/train_demo/export.py OUT_DIR/moe.pt WORK_DIR/tokenizer.json models/demo

bfloat16 weights in one safetensors file, config.json, generation_config.json, tokenizer.json and
tokenizer_config.json with the chat template.
"""
import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file

from make_tokens import SPECIAL
from model import Config

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def tensors_of(config, state):
    """The weights under the names of published Qwen3-MoE checkpoints."""
    out = {"model.embed_tokens.weight": state["embedding"], "model.norm.weight": state["norm"]}
    for layer in range(config.layers):
        own = {name.split(".", 2)[2].removeprefix("_orig_mod."): value for name, value in state.items()
               if name.startswith(f"blocks.{layer}.")}
        to = f"model.layers.{layer}"
        for name, source in (("input_layernorm", "attention_norm"), ("post_attention_layernorm", "expert_norm"),
                             ("self_attn.q_norm", "query_norm"), ("self_attn.k_norm", "key_norm"),
                             ("self_attn.q_proj", "query"), ("self_attn.k_proj", "key"),
                             ("self_attn.v_proj", "value"), ("self_attn.o_proj", "output"), ("mlp.gate", "router")):
            out[f"{to}.{name}.weight"] = own[source]
        for name, source in (("gate_proj", "gate"), ("up_proj", "up"), ("down_proj", "down")):
            for expert, weight in enumerate(own[source].view(config.experts, config.expert_width, config.hidden)):
                if name == "down_proj":
                    weight = weight.T
                out[f"{to}.mlp.experts.{expert}.{name}.weight"] = weight
    return {name: value.to(torch.bfloat16).contiguous().clone() for name, value in out.items()}


def config_of(config):
    end = config.vocab - len(SPECIAL)
    return {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "attention_bias": False,
        "attention_dropout": 0.0, "bos_token_id": end, "decoder_sparse_step": 1, "eos_token_id": end + 2,
        "head_dim": config.head_dim, "hidden_act": "silu", "hidden_size": config.hidden, "initializer_range": 0.02,
        "intermediate_size": config.expert_width, "max_position_embeddings": config.max_positions,
        "max_window_layers": config.layers, "mlp_only_layers": [], "moe_intermediate_size": config.expert_width,
        "norm_topk_prob": True, "num_attention_heads": config.heads, "num_experts": config.experts,
        "num_experts_per_tok": config.top_k, "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads, "output_router_logits": False, "pad_token_id": end,
        "rms_norm_eps": config.eps, "rope_scaling": None, "rope_theta": config.theta, "router_aux_loss_coef": 0.01,
        "sliding_window": None, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True,
        "use_sliding_window": False, "vocab_size": config.vocab}


def tokenizer_config_of(config):
    end = config.vocab - len(SPECIAL)
    added = {str(end + i): {"content": token, "lstrip": False, "normalized": False, "rstrip": False,
                            "single_word": False, "special": True} for i, token in enumerate(SPECIAL)}
    return {"add_prefix_space": False, "added_tokens_decoder": added, "bos_token": None, "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False, "eos_token": SPECIAL[2],
            "model_max_length": config.max_positions, "pad_token": SPECIAL[0],
            "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=pathlib.Path)
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    args = parser.parse_args()
    saved = torch.load(args.weights, map_location="cpu")
    config = Config(**saved["config"])
    args.folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors_of(config, saved["model"]), args.folder / "model.safetensors", metadata={"format": "pt"})
    end = config.vocab - len(SPECIAL)
    files = {"config": config_of(config), "tokenizer_config": tokenizer_config_of(config),
             "generation_config": {"bos_token_id": end, "do_sample": True, "eos_token_id": [end + 2, end],
                                   "pad_token_id": end, "temperature": 0.3, "top_p": 0.9}}
    for name, content in files.items():
        (args.folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    shutil.copy(args.tokenizer, args.folder / "tokenizer.json")
    print(f"{(args.folder / 'model.safetensors').stat().st_size / 1e6:.2f} MB of weights")


if __name__ == "__main__":
    main()
