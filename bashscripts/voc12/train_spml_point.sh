#!/usr/bin/env bash
# PASCAL VOC 2012 from points, or other data by CFG: `spml run point`. Settings: spml_run in bashscripts/setup.sh
#   DATAROOT=folder GPUS=4 bash bashscripts/voc12/train_spml_point.sh [key=value ..]
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
# shellcheck source=bashscripts/setup.sh
source bashscripts/setup.sh
spml_run point configs/voc12/point.yaml "$@"
