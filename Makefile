# Everything a newcomer types. Each target installs what it needs and is missing.
#   make bench     build in release, fetch the model, print the machine's, the model's and the kernels' speed and the papers'
#                  headlines
#   make test      the tests: on this processor, emulated older and ARM ones, and as a dependency of a clean package
#   make docs      the documentation as a site, a warning being an error; every public symbol must have a comment
#   make lint      formatting, and no build product under version control
#   make compare   ours and theirs (llama.cpp, PyTorch, onnxruntime) in one interleaved run
#   make benchmark the kernels in the standard view of ordo-one/benchmark: percentiles, baselines
#   make exact-match  ternary formats against one another on 1,000 prompts
#   make sanitize  kernels, worker pool and parsers under the address, thread and undefined-behavior sanitizers
#   make fuzz      files, texts and arguments of any bytes against the parsers, five minutes each
#   make soak      an hour of generating: equal texts, flat memory (Tests/soak.sh SECONDS for another time)
#   make model     fetch the model and print where it is
SHELL := /bin/bash
.DEFAULT_GOAL := bench
.PHONY: bench test docs lint compare benchmark exact-match sanitize fuzz soak model smoke

bench:
	@Benchmarks/bench.sh

test:
	@Tests/test.sh

docs:
	@Tests/docs.sh

lint:
	@Tests/lint.sh

compare:
	@Benchmarks/compare.sh

benchmark:
	@Benchmarks/benchmark.sh

exact-match:
	@Benchmarks/exact_match.sh

sanitize:
	@Tests/Sanitizers/run.sh

fuzz:
	@Tests/Fuzz/run.sh

soak:
	@Tests/soak.sh

model:
	@Benchmarks/model.sh

# A short run of the main job on a small model made on the spot.
smoke:
	@Benchmarks/bench.sh --smoke
