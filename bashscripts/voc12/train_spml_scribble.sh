#!/usr/bin/env bash
# PASCAL VOC 2012 from scribbles, or other data by CFG: `spml run scribble`. Settings: spml_run in bashscripts/setup.sh
#   DATAROOT=folder GPUS=4 bash bashscripts/voc12/train_spml_scribble.sh [key=value ..]
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
# shellcheck source=bashscripts/setup.sh
source bashscripts/setup.sh
spml_run scribble configs/voc12/scribble.yaml "$@"
