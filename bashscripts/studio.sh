#!/usr/bin/env bash
# The studio: strokes in a browser, labels for the whole folder. See docs/studio.md.
#
#   bash bashscripts/studio.sh                     opens the built-in data, in snapshots/studio
#   bash bashscripts/studio.sh FOLDER [options]    opens a folder of photographs, which stay as they are
#
# The first call makes .venv and installs what is missing, which takes minutes; later ones start at once. The address is
# printed and a browser opens on it. Ctrl-C ends the server; the next start goes on where it stopped.
#
#   --classes a,b,c    names of the classes, the background first; or a file with one a line. The page takes them, too
#   --source SOURCE    of the features: package:efficientnet_lite0 (the default), or the folder of a trained snapshot
#   --port PORT        8008 by default; 0: any that is free
#   --no-browser       only print the address
#   --host HOST        let other machines in by this address of this machine, 0.0.0.0 for all; needs --token
#   --token TOKEN      a secret word that they must know
#   --traceback        with a mistake's line, show where it was found
#
# Of the environment: SPML_VENV=folder, PYTHON=python3.12, and a much smaller download of torch without CUDA by
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
set -euo pipefail
case ${1:-} in
  -h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"
    exit
    ;;
esac
CALLED_FROM=$PWD
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=bashscripts/setup.sh
source bashscripts/setup.sh
spml_setup studio
case ${1:---} in
  -*) # no folder: the built-in data
    "$SPML_PYTHON" -m spml shapes --save_dir snapshots/studio --num_train 24 --num_val 1
    exec "$SPML_PYTHON" -m spml studio snapshots/studio/image --classes snapshots/studio/classes.txt "$@"
    ;;
esac
CDPATH='' cd -- "$CALLED_FROM"
exec "$SPML_PYTHON" -m spml studio "$@"
