import LanguageModel
import QuantKernels
import XCTest

/// Expected texts were made with `llama_chat_apply_template` of llama.cpp.
final class ChatTemplateTests: XCTestCase {
  private let conversation: [ChatMessage] = [
    .system("Be kind. "), .user(" Hello"), .assistant("Hi\n"), .user("Bye"),
  ]

  func testFamilies() {
    let expected: [ChatTemplate.Family: String] = [
      .chatML:
        "<|im_start|>system\nBe kind. <|im_end|>\n<|im_start|>user\n Hello<|im_end|>\n"
        + "<|im_start|>assistant\nHi\n<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        + "<|im_start|>assistant\n",
      .llama2:
        "[INST] Be kind. \n Hello [/INST]Hi\n</s>[INST] Bye [/INST]",
      .llama2System:
        "[INST] <<SYS>>\nBe kind. \n<</SYS>>\n\n Hello [/INST]Hi\n</s>[INST] Bye [/INST]",
      .llama2SystemBeginning:
        "[INST] <<SYS>>\nBe kind. \n<</SYS>>\n\n Hello [/INST]Hi\n"
        + "</s><s>[INST] Bye [/INST]",
      .llama2SystemStrip:
        "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHello [/INST]Hi</s>[INST] Bye [/INST]",
      .mistralV1:
        " [INST] Be kind. \n\n Hello [/INST] Hi\n</s> [INST] Bye [/INST]",
      .mistralV3:
        "[INST] Be kind. \n\n Hello[/INST] Hi</s>[INST] Bye[/INST]",
      .mistralV3Tekken:
        "[INST]Be kind. \n\n Hello[/INST]Hi\n</s>[INST]Bye[/INST]",
      .mistralV7:
        "[SYSTEM_PROMPT] Be kind. [/SYSTEM_PROMPT][INST]  Hello[/INST] Hi\n"
        + "</s>[INST] Bye[/INST]",
      .mistralV7Tekken:
        "[SYSTEM_PROMPT]Be kind. [/SYSTEM_PROMPT][INST] Hello[/INST]Hi\n"
        + "</s>[INST]Bye[/INST]",
      .phi3:
        "<|system|>\nBe kind. <|end|>\n<|user|>\n Hello<|end|>\n<|assistant|>\nHi\n"
        + "<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n",
      .phi4:
        "<|im_start|>system<|im_sep|>Be kind. <|im_end|><|im_start|>user<|im_sep|> Hell"
        + "o<|im_end|><|im_start|>assistant<|im_sep|>Hi\n"
        + "<|im_end|><|im_start|>user<|im_sep|>Bye<|im_end|><|im_start|>assistant<|im_sep|>",
      .falcon3:
        "<|system|>\nBe kind. \n<|user|>\n Hello\n<|assistant|>\nHi\n\n<|user|>\nBye\n"
        + "<|assistant|>\n",
      .zephyr:
        "<|system|>\nBe kind. <|endoftext|>\n<|user|>\n Hello<|endoftext|>\n"
        + "<|assistant|>\nHi\n<|endoftext|>\n<|user|>\nBye<|endoftext|>\n<|assistant|>\n",
      .monarch:
        "system\nBe kind. </s>\n<s>user\n Hello</s>\n<s>assistant\nHi\n</s>\n<s>user\n"
        + "Bye</s>\n<s>assistant\n",
      .gemma:
        "<start_of_turn>user\nBe kind.\n\nHello<end_of_turn>\n<start_of_turn>model\n"
        + "Hi<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
      .orion:
        "Human: Be kind. \n\n Hello\n\nAssistant: </s>Hi\n</s>Human: Bye\n\n"
        + "Assistant: </s>",
      .openChat:
        "Be kind. <|end_of_turn|>GPT4 Correct User:  Hello<|end_of_turn|>GPT4 Correct A"
        + "ssistant: Hi\n<|end_of_turn|>GPT4 Correct User: Bye<|end_of_turn|>GPT4 Correct"
        + " Assistant:",
      .vicuna:
        "Be kind. \n\nUSER:  Hello\nASSISTANT: Hi\n</s>\nUSER: Bye\nASSISTANT:",
      .vicunaOrca:
        "SYSTEM: Be kind. \nUSER:  Hello\nASSISTANT: Hi\n</s>\nUSER: Bye\nASSISTANT:",
      .deepSeek:
        "Be kind. ### Instruction:\n Hello\n### Response:\nHi\n\n<|EOT|>\n"
        + "### Instruction:\nBye\n### Response:\n",
      .deepSeek2:
        "Be kind. \n\nUser:  Hello\n\nAssistant: Hi\n<｜end▁of▁sentence｜>User: Bye\n\n"
        + "Assistant:",
      .deepSeek3:
        "Be kind. \n\n<｜User｜> Hello<｜Assistant｜>Hi\n"
        + "<｜end▁of▁sentence｜><｜User｜>Bye<｜Assistant｜>",
      .commandR:
        "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be kind.<|END_OF_TURN_TOKEN|><|START_OF"
        + "_TURN_TOKEN|><|USER_TOKEN|>Hello<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|"
        + "CHATBOT_TOKEN|>Hi<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Bye"
        + "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
      .llama3:
        "<|start_header_id|>system<|end_header_id|>\n\n"
        + "Be kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
        + "Hello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        + "Hi<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
        + "Bye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
      .chatGLM3:
        "[gMASK]sop<|system|>\n Be kind. <|user|>\n  Hello<|assistant|>\n Hi\n<|user|>\n"
        + " Bye<|assistant|>",
      .chatGLM4:
        "[gMASK]<sop><|system|>\nBe kind. <|user|>\n Hello<|assistant|>\nHi\n<|user|>\n"
        + "Bye<|assistant|>\n",
      .glmEdge:
        "<|system|>\nBe kind. <|user|>\n Hello<|assistant|>\nHi\n<|user|>\n"
        + "Bye<|assistant|>",
      .miniCPM:
        "Be kind.<用户>Hello<AI>Hi<用户>Bye<AI>",
      .exaone3:
        "[|system|]Be kind.[|endofturn|]\n[|user|]Hello\n[|assistant|]Hi[|endofturn|]\n"
        + "[|user|]Bye\n[|assistant|]",
      .exaone4:
        "[|system|]Be kind.[|endofturn|]\n[|user|]Hello\n[|assistant|]Hi[|endofturn|]\n"
        + "[|user|]Bye\n[|assistant|]",
      .exaoneMoE:
        "<|system|>\nBe kind.<|endofturn|>\n<|user|>\nHello<|endofturn|>\n<|assistant|>\n"
        + "Hi<|endofturn|>\n<|user|>\nBye<|endofturn|>\n<|assistant|>\n",
      .rwkvWorld:
        "System: Be kind.\n\nUser: Hello\n\nAssistant: Hi\n\nUser: Bye\n\nAssistant:",
      .granite:
        "<|start_of_role|>system<|end_of_role|>Be kind. <|end_of_text|>\n"
        + "<|start_of_role|>user<|end_of_role|> Hello<|end_of_text|>\n"
        + "<|start_of_role|>assistant<|end_of_role|>Hi\n<|end_of_text|>\n"
        + "<|start_of_role|>user<|end_of_role|>Bye<|end_of_text|>\n"
        + "<|start_of_role|>assistant<|end_of_role|>",
      .granite40:
        "<|start_of_role|>system<|end_of_role|>Be kind. <|end_of_text|>\n"
        + "<|start_of_role|>user<|end_of_role|> Hello<|end_of_text|>\n"
        + "<|start_of_role|>assistant<|end_of_role|>Hi\n<|end_of_text|>\n"
        + "<|start_of_role|>user<|end_of_role|>Bye<|end_of_text|>\n"
        + "<|start_of_role|>assistant<|end_of_role|>",
      .granite41:
        "<|start_of_role|>system<|end_of_role|>Be kind. <|end_of_text|>\n"
        + "<|start_of_role|>user<|end_of_role|> Hello<|end_of_text|>\n"
        + "<|start_of_role|>assistant<|end_of_role|>Hi\n<|end_of_text|>\n"
        + "<|start_of_role|>user<|end_of_role|>Bye<|end_of_text|>\n"
        + "<|start_of_role|>assistant<|end_of_role|>",
      .gigaChat:
        "<s>Be kind. <|message_sep|>user<|role_sep|> Hello<|message_sep|>available func"
        + "tions<|role_sep|>[]<|message_sep|>assistant<|role_sep|>Hi\n"
        + "<|message_sep|>user<|role_sep|>Bye<|message_sep|>available functions<|role_sep"
        + "|>[]<|message_sep|>assistant<|role_sep|>",
      .megrez:
        "<|role_start|>system<|role_end|>Be kind. <|turn_end|><|role_start|>user<|role_"
        + "end|> Hello<|turn_end|><|role_start|>assistant<|role_end|>Hi\n"
        + "<|turn_end|><|role_start|>user<|role_end|>Bye<|turn_end|><|role_start|>assista"
        + "nt<|role_end|>",
      .yandex:
        " Пользователь:  Hello\n\n Ассистент: Hi\n\n\n Пользователь: Bye\n\n"
        + " Ассистент:[SEP]",
      .bailing:
        "<role>SYSTEM</role>Be kind. <role>HUMAN</role> Hello<role>ASSISTANT</role>Hi\n"
        + "<role>HUMAN</role>Bye<role>ASSISTANT</role>",
      .bailingThink:
        "<role>SYSTEM</role>Be kind. <role>HUMAN</role> Hello<role>ASSISTANT</role>Hi\n"
        + "<role>HUMAN</role>Bye<role>ASSISTANT</role><think>",
      .bailing2:
        "<role>SYSTEM</role>Be kind. <|role_end|><role>HUMAN</role> Hello<|role_end|><r"
        + "ole>ASSISTANT</role>Hi\n"
        + "<|role_end|><role>HUMAN</role>Bye<|role_end|><role>ASSISTANT</role>",
      .llama4:
        "<|header_start|>system<|header_end|>\n\n"
        + "Be kind.<|eot|><|header_start|>user<|header_end|>\n\n"
        + "Hello<|eot|><|header_start|>assistant<|header_end|>\n\n"
        + "Hi<|eot|><|header_start|>user<|header_end|>\n\n"
        + "Bye<|eot|><|header_start|>assistant<|header_end|>\n\n",
      .smolVLM:
        "<|im_start|>Be kind. \n\nUser:  Hello<end_of_utterance>\nAssistant: Hi\n"
        + "<end_of_utterance>\nUser: Bye<end_of_utterance>\nAssistant:",
      .dots1:
        "<|system|>Be kind. <|endofsystem|><|userprompt|> Hello<|endofuserprompt|><|res"
        + "ponse|>Hi\n<|endofresponse|><|userprompt|>Bye<|endofuserprompt|><|response|>",
      .hunyuanMoE:
        "<|startoftext|>Be kind. <|extra_4|><|startoftext|> Hello<|extra_0|>Hi\n"
        + "<|eos|><|startoftext|>Bye<|extra_0|>",
      .gptOSS:
        "<|start|>system<|message|>Be kind. <|end|><|start|>user<|message|> Hello<|end|"
        + "><|start|>assistant<|message|>Hi\n"
        + "<|return|><|start|>user<|message|>Bye<|end|><|start|>assistant",
      .hunyuanDense:
        "Be kind. <｜hy_place▁holder▁no▁3｜><｜hy_User｜> Hello<｜hy_Assistant｜><｜hy_Assista"
        + "nt｜>Hi\n<｜hy_place▁holder▁no▁2｜><｜hy_User｜>Bye<｜hy_Assistant｜>",
      .hunyuanVL:
        "<｜hy_begin▁of▁sentence｜>Be kind. <｜hy_place▁holder▁no▁3｜> Hello<｜hy_User｜>Hi\n"
        + "<｜hy_Assistant｜>Bye<｜hy_User｜>",
      .kimiK2:
        "<|im_system|>system<|im_middle|>Be kind. <|im_end|><|im_user|>user<|im_middle|"
        + "> Hello<|im_end|><|im_assistant|>assistant<|im_middle|>Hi\n"
        + "<|im_end|><|im_user|>user<|im_middle|>Bye<|im_end|><|im_assistant|>assistant<|"
        + "im_middle|>",
      .seedOSS:
        "<seed:bos>system\nBe kind. <seed:eos><seed:bos>user\n"
        + " Hello<seed:eos><seed:bos>assistant\nHi<seed:eos><seed:bos>user\n"
        + "Bye<seed:eos><seed:bos>assistant\n",
      .grok2:
        "System: Be kind.<|separator|>\n\nHuman: Hello<|separator|>\n\nAssistant: Hi\n"
        + "<|separator|>\n\nHuman: Bye<|separator|>\n\nAssistant:",
      .panguEmbedded:
        "[unused9]系统：Be kind. [unused10][unused9]用户： Hello[unused10][unused9]助手：Hi\n"
        + "[unused10][unused9]用户：Bye[unused10][unused9]助手：",
      .solarOpen:
        "<|begin|>system<|content|>Be kind. <|end|><|begin|>user<|content|> Hello<|end|"
        + "><|begin|>assistant<|content|>Hi\n"
        + "<|end|><|begin|>user<|content|>Bye<|end|><|begin|>assistant",
    ]
    for (family, text) in expected {
      XCTAssertEqual(
        ChatTemplate(family: family).format(conversation, addGenerationPrompt: true), text,
        family.rawValue)
    }
    XCTAssertEqual(expected.count, ChatTemplate.Family.allCases.count)
  }

  func testEveryFamilyTakesAnyConversation() {
    let odd = [
      ChatMessage(role: "", content: ""), ChatMessage(role: "tool", content: "t"), .system("s"),
    ]
    for family in ChatTemplate.Family.allCases {
      let template = ChatTemplate(family: family)
      for messages in [[], odd, odd.reversed(), [.assistant("a"), .assistant("b")]] {
        let without = template.format(messages, addGenerationPrompt: false)
        let with = template.format(messages, addGenerationPrompt: true)
        XCTAssertTrue(with.hasPrefix(without), family.rawValue)
      }
    }
  }

  func testTemplatesAreRecognizedByTheirMarks() throws {
    let programs: [(String, ChatTemplate.Family)] = [
      ("{{ '<|im_start|>' + message['role'] }}", .chatML),
      ("{{ '<|im_start|>' + role + '<|im_sep|>' }}", .phi4),
      ("<|im_start|>{{ 'User: ' }}<end_of_utterance>", .smolVLM),
      ("{{ '[INST] ' + message['content'] + ' [/INST]' }}", .llama2),
      ("{{ '[INST] ' + '<<SYS>>' }}", .llama2System),
      ("{{ bos_token + '[INST] ' + '<<SYS>>' }}", .llama2SystemBeginning),
      ("{{ bos_token + '[INST] ' + content.strip() }}", .llama2SystemStrip),
      ("{{ ' [INST] ' + system_message }}", .mistralV1),
      ("{{ '[AVAILABLE_TOOLS]' }}{{ '[INST] ' }}", .mistralV3),
      ("{{ \"[AVAILABLE_TOOLS]\" }}{{ \"[INST]\" }}", .mistralV3Tekken),
      ("{{ '[SYSTEM_PROMPT] ' }}{{ '[INST] ' }}", .mistralV7),
      ("{{ '<|user|>' + '<|end|>' + '<|assistant|>' }}", .phi3),
      ("[gMASK]<sop>{{ '<|user|>' }}", .chatGLM4),
      ("{{ '<|user|>' }}{{ '<|assistant|>' }}", .glmEdge),
      ("{{ '<|user|>' }}{{ '<|assistant|>' }}</s>", .falcon3),
      ("{{ '<|user|>' }}<|endoftext|>", .zephyr),
      ("{{ '<start_of_turn>' + role }}", .gemma),
      ("{{ 'USER: ' }}{{ 'ASSISTANT: ' }}", .vicuna),
      ("### Instruction: {{ '<|EOT|>' }}", .deepSeek),
      ("<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", .commandR),
      ("<|start_header_id|>{{ role }}<|end_header_id|>", .llama3),
      ("{{ 'Assistant: ' + message['content'] + eos_token }}", .deepSeek2),
      ("{{'<｜User｜>'}}{{'<｜Assistant｜>'}}{{'<｜end▁of▁sentence｜>'}}", .deepSeek3),
      ("<|start_of_role|>{{ role }}", .granite),
      ("<|start_of_role|><tools>", .granite41),
      ("<|header_start|>{{ role }}<|header_end|>", .llama4),
      ("<|start|>{{ role }}<|channel|>", .gptOSS),
      ("chatml", .chatML), ("llama3", .llama3), ("gpt-oss", .gptOSS),
    ]
    for (program, family) in programs {
      XCTAssertEqual(try ChatTemplate(template: program).family, family, program)
    }
    for unknown in ["", "{{ messages }}", "gemma\u{300}"] {
      XCTAssertThrowsError(try ChatTemplate(template: unknown), unknown) {
        XCTAssertEqual(($0 as? QuantError)?.code, .unsupported)
      }
    }
  }

  func testDefaultSystemMessages() throws {
    let programs: [(String, String?)] = [
      // SmolLM2: a line break inside a string.
      (
        "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are Smol<|im_end|>\n' }}{% endif %}",
        "You are Smol"
      ),
      // Qwen 2.5: an escaped one, after a system turn made of parts.
      (
        "{{- '<|im_start|>system\\n' }}{{- messages[0]['content'] }}{{ '<|im_start|>system\\n' + x + "
          + "'<|im_end|>\\n' }}{{- '<|im_start|>system\\nYou\\'re Qwen.\\nHelp.<|im_end|>\\n' }}",
        "You're Qwen.\nHelp."
      ),
      ("<|im_start|>system\nPlain text<|im_end|>", "Plain text"),
      ("<|im_start|>system\n{{ content }}<|im_end|>", nil),
      ("{{ '<|im_start|>' + message['role'] + '\n' }}", nil),
      ("{{ '<|im_start|>system\n<|im_end|>' }}", nil),
      ("{{ '<|im_start|>system\nunfinished \\", nil),
    ]
    for (program, system) in programs {
      let template = try ChatTemplate(template: program)
      XCTAssertEqual(template.family, .chatML)
      XCTAssertEqual(template.defaultSystemMessage, system, program)
    }
    let template = ChatTemplate(family: .chatML, defaultSystemMessage: "S")
    XCTAssertEqual(
      template.format([.user("u")], addGenerationPrompt: false),
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nu<|im_end|>\n")
    XCTAssertEqual(
      template.format([.system("mine")], addGenerationPrompt: false),
      "<|im_start|>system\nmine<|im_end|>\n")
    XCTAssertEqual(template.format([], addGenerationPrompt: false), "")
  }
}
