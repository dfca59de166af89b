"""Lets PyPI's Linux wheel of torch run on the CPU without the GPU packages that it names.

The wheel is linked against CUDA's libraries, several gigabytes that a CPU never calls. This makes libraries of
the same names that hold nothing but the functions torch was linked against, each reporting that there is no
device, and puts them beside torch's own libraries. Needs gcc and readelf.

Usage: python cpu_torch.py            (in the environment that has torch)
"""

import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile

CUDA_NAMES = re.compile(
    r"^(__cuda|cuda|cu[A-Z]|cudnn|cublas|cusparse|cusolver|cufft|cufile|cuFile|cupti|nccl|nvrtc|nvshmem|nvml|nvtx)"
)
NO_DEVICE = 100  # cudaErrorNoDevice, CUDA_ERROR_NO_DEVICE


def readelf(option, path):
    result = subprocess.run(
        ["readelf", option, "-W", str(path)], capture_output=True, text=True, check=True
    )
    return result.stdout


def main():
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        sys.exit("torch is not installed")
    folder = pathlib.Path(spec.origin).parent / "lib"
    libraries = sorted(folder.glob("*.so"))
    present = {path.name for path in folder.iterdir()}
    needed, undefined, defined = set(), set(), set()
    for library in libraries:
        for name in re.findall(r"\(NEEDED\).*\[(.+?)\]", readelf("-d", library)):
            if re.match(r"lib(cu|nv|nccl)", name) and name not in present:
                needed.add(name)
        for line in readelf("--dyn-syms", library).splitlines():
            fields = line.split()
            if len(fields) < 8 or not fields[0].endswith(":"):
                continue
            name = fields[7].split("@")[0]
            (undefined if fields[6] == "UND" else defined).add(name)
    missing = sorted(n for n in undefined - defined if CUDA_NAMES.match(n))
    with tempfile.TemporaryDirectory() as work:
        empty = pathlib.Path(work) / "empty.c"
        empty.write_text("")
        full = pathlib.Path(work) / "full.c"
        lines = [f"int cudaGetDeviceCount(int *n) {{ *n = 0; return {NO_DEVICE}; }}"]
        for name in missing:
            if name == "cudaGetDeviceCount":
                continue
            # Registration at load time hands back handles; zero is one that nobody looks into.
            result = 0 if name.startswith("__cuda") else NO_DEVICE
            lines.append(f"long {name}(void) {{ return {result}; }}")
        full.write_text("\n".join(lines) + "\n")
        # The functions stand in a library of another name: torch asks for versions of them in CUDA's
        # own libraries, and the loader insists on versions only in the library that was named.
        holder = folder / "libno_cuda_device.so"

        def build(path, source, *options):
            command = ["gcc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{path.name}"]
            subprocess.run([*command, "-o", str(path), str(source), *options], check=True)

        build(holder, full)
        for name in sorted(needed):
            build(
                folder / name, empty, "-Wl,--no-as-needed", str(holder), "-Wl,-rpath,$ORIGIN"
            )
    print(f"{len(needed)} CUDA libraries replaced by empty ones, {len(missing)} functions")


if __name__ == "__main__":
    main()
