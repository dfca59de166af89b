/// Names of a decoder's tensors in Hugging Face checkpoints, from those of GGUF.
///
/// Source: the tensor tables of llama.cpp's `gguf-py/gguf/tensor_mapping.py`, for these
/// architectures.
enum HuggingFaceNames {
  /// nil for a tensor that these architectures do not have.
  static func name(of tensor: String, architecture: String) -> String? {
    guard let dot = tensor.lastIndex(of: ".") else { return nil }
    let stem = tensor[..<dot]
    let suffix = tensor[dot...]
    guard suffix == ".weight" || suffix == ".bias" else { return nil }
    switch stem {
    case "token_embd": return "model.embed_tokens\(suffix)"
    case "output_norm": return "model.norm\(suffix)"
    case "output": return "lm_head\(suffix)"
    default: break
    }
    let parts = stem.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0] == "blk", let layer = Int(parts[1]), layer >= 0,
      let part = layerPart(String(parts[2]), isGemma: architecture == "gemma3")
    else { return nil }
    return "model.layers.\(layer).\(part)\(suffix)"
  }

  private static func layerPart(_ part: String, isGemma: Bool) -> String? {
    switch part {
    case "attn_norm": "input_layernorm"
    case "attn_q": "self_attn.q_proj"
    case "attn_k": "self_attn.k_proj"
    case "attn_v": "self_attn.v_proj"
    case "attn_output": "self_attn.o_proj"
    case "attn_q_norm": "self_attn.q_norm"
    case "attn_k_norm": "self_attn.k_norm"
    case "ffn_norm": isGemma ? "pre_feedforward_layernorm" : "post_attention_layernorm"
    case "post_attention_norm": isGemma ? "post_attention_layernorm" : nil
    case "post_ffw_norm": isGemma ? "post_feedforward_layernorm" : nil
    case "ffn_gate": "mlp.gate_proj"
    case "ffn_up": "mlp.up_proj"
    case "ffn_down": "mlp.down_proj"
    case "attn_sub_norm": "self_attn.attn_sub_norm"
    case "ffn_sub_norm": "mlp.ffn_sub_norm"
    default: nil
    }
  }
}
