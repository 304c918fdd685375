#!/bin/sh
# Builds the native plugin without a display or a terminal: `plugin_stub/build.sh native FOLDER` (what `make plugin` runs: all
# formats of all variants, and what the tests load) or `... windows FOLDER` (VST3 and CLAP, by mingw-w64). Arguments after the
# folder go to cmake. DPF_SOURCE names a copy of DPF, JOBS the compilers at once. Exit code 3: something must be installed first.
set -eu
kind=$1 folder=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
system=$(uname -s)

advice="sudo apt install build-essential cmake ninja-build pkg-config patch dpf-source libgl1-mesa-dev libx11-dev libxext-dev libxrandr-dev libxcursor-dev libjack-jackd2-dev"
[ "$system" != Darwin ] || advice="xcode-select --install; brew install cmake ninja pkg-config jack; git clone --recursive https://github.com/DISTRHO/DPF, DPF_SOURCE=DPF"
compiler=${CXX:-c++}
if [ "$kind" = windows ]; then
    advice="sudo apt install cmake ninja-build patch dpf-source g++-mingw-w64-x86-64-posix"
    compiler=x86_64-w64-mingw32-g++-posix
    set -- "-DCMAKE_TOOLCHAIN_FILE=$here/cmake/windows.cmake" "-DATTACCA_TARGETS=vst3;clap" "$@"
fi

missing=
for tool in cmake ninja patch "$compiler"; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
dpf=${DPF_SOURCE:-/usr/share/dpf}
[ -f "$dpf/distrho/DistrhoPlugin.hpp" ] || missing="$missing DPF in $dpf (name a copy: DPF_SOURCE=FOLDER)"
if [ -n "$missing" ]; then
    echo "the plugin cannot be built, not found:$missing" >&2
    echo "install: $advice" >&2
    exit 3
fi

log=$folder/build.log
mkdir -p "$folder"
[ -z "${DPF_SOURCE:-}" ] || set -- "-DDPF_SOURCE=$(cd "$DPF_SOURCE" && pwd)" "$@"
cmake -S "$here" -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release -DATTACCA_FORMATS=ON -DATTACCA_TESTS=ON "$@" >"$log" 2>&1 || {
    cat "$log" >&2
    exit 1
}
grep -o 'Attacca: .*' "$log" || true
echo "building the plugin in $folder"
ninja -C "$folder" ${JOBS:+-j"$JOBS"} >"$log" 2>&1 || {
    grep -A20 -E 'FAILED|error' "$log" >&2 || tail -n 60 "$log" >&2
    exit 1
}
for file in "$folder"/bin/*; do
    case $file in
        *.vst3) what="VST3" ;;
        *.clap) what="CLAP" ;;
        *.lv2) what="LV2" ;;
        *) what="JACK standalone" ;;
    esac
    printf '  %-16s %s\n' "$what" "$file"
done
