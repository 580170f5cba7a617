#!/usr/bin/env bash
# What the pipelines share. Each sources this file, replaces the stages in which it differs, and ends in `pipeline`:
#
#   DATAROOT=folder bash bashscripts/voc12/train_spml_scribble.sh [key=value ..]
#
# key=value goes to all commands with a network, training of the classifier included: train.base_lr=0.001. The same
# command goes on where an interrupted one stopped. Relative paths start from the project. Settings:
#
#   DATAROOT=folder        where the paths of the data lists start; needed
#   SNAPSHOTS=folder       gets everything; snapshots/<name of the pipeline>
#   STAGES="pseudo .."     only these, in the order of the pipeline; what they need must be there
#   DRY=1                  print the commands and run none
#   GPUS=4                 processes in training; 1. Stage 1 sees GPUS x train.batch_size images a step, released: 4 x 4
#   CLASSIFIER="k=v .."    for training of the classifier alone, over all else: train.max_iteration=4000
#   RELEASED_EVALUATION=1  the last evaluation as the release's scripts do it, not CRF + scales + flip
#   EXPECT=76.1            end with status 1 where the mean IoU (%) of the last evaluation is more than 0.5 away
#   GT_LIST=file           `image mask` lines of the training images: the mIoU of each stage's labels goes to
#                          SNAPSHOTS/quality.json and into a table; a diagnostic, by which nothing is chosen
#   CFG=file  GRID=h,w     another config; another k-means grid outside training
#   SPML_PYTHON=file       an interpreter that has all it needs, in place of the project's environment
#
# Tags and boxes start from CAMs, which are made unless CAM_DIR names some. For those that are made:
#
#   CAM_CFG=file           config of their network; that of the pipeline with `cam` for `tag` or `box` in its name
#   CAM="k=v .."           for the training of that network alone, over all else
#   BOXES=path             for boxes: boxes.json, as annotate.py writes it, or a folder of VOC annotations <name>.xml
#   INSTANCE_DIR=folder    over-segmentations <name>.png, where CAM_CFG's list does not name them
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

SOURCE=softmax        # of the pseudo labels
CAM_KIND=             # tag or box: labels that are made of CAMs
LABELS=()             # options of the commands that read them: the list of those labels
RELEASED=()           # options of inference.py in the release's last evaluation: softmax at one scale
MEMORY_VIEWS=()       # options of prototype.py

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Runs a command and shows it, or only shows it.
run() {
  local word
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=,+@%-]+$ ]]; then printf '%s ' "$word"; else printf '%q ' "$word"; fi
  done
  printf '\n'
  [ "${DRY:-0}" = 1 ] || "$@"
}

# network <script> <options and overrides ..>
network() {
  run "$SPML_PYTHON" "$1" --cfg_path "$CFG" --data_dir "$DATAROOT" "${@:2}" ${OVERRIDES[@]+"${OVERRIDES[@]}"}
}

# train_network <script> <options ..>, in several processes if GPUS says so
train_network() {
  local launch=("$SPML_PYTHON")
  if [ "$GPUS" -gt 1 ]; then
    launch+=(-m torch.distributed.run --standalone "--nproc_per_node=$GPUS")
  fi
  run "${launch[@]}" "$1" --cfg_path "$CFG" --data_dir "$DATAROOT" --resume "${@:2}"
}

# memory <folder> <list, or nothing for the training list>: labelled prototypes of the training images
memory() {
  local labels=(${LABELS[@]+"${LABELS[@]}"})
  [ -z "$2" ] || labels=(--data_list "$2")
  network pyscripts/inference/prototype.py --snapshot_dir "$SNAPSHOTS/stage1" --save_dir "$1" \
    --kmeans_num_clusters "$GRID" ${labels[@]+"${labels[@]}"} ${MEMORY_VIEWS[@]+"${MEMORY_VIEWS[@]}"}
}

# pseudo_label <folder> <snapshots> <options ..>
pseudo_label() {
  network pyscripts/inference/pseudo_label.py --save_dir "$1" --snapshot_dir "$2" --kmeans_num_clusters "$GRID" \
    ${LABELS[@]+"${LABELS[@]}"} "${@:3}"
}

# train_classifier <folder> <list of pseudo labels>: the classifier on the frozen embedding of stage 1
train_classifier() {
  local own=()
  read -r -a own <<<"${CLASSIFIER:-}"
  train_network pyscripts/train/train_classifier.py --snapshot_dir "$1" --data_list "$2" \
    network.prediction_types=softmax_classifier "train.batch_size=$(((15 + GPUS) / GPUS))" train.max_iteration=4000 \
    ${OVERRIDES[@]+"${OVERRIDES[@]}"} ${own[@]+"${own[@]}"} "network.pretrained=$SNAPSHOTS/stage1"
}

# predict <folder> <snapshots> <options ..>
predict() {
  network pyscripts/inference/inference.py --save_dir "$1" --snapshot_dir "$2" "${@:3}"
}

# benchmark <script> <folder of predictions> <name of the JSON file> <options ..>
benchmark() {
  run "$SPML_PYTHON" "pyscripts/benchmark/$1" --pred_dir "$2/semantic_gray" --data_dir "$DATAROOT" \
    --data_list "$TEST_LIST" --num_classes "$NUM_CLASSES" ${CLASSES:+--classes "$CLASSES"} --json "$2/$3" "${@:4}"
}

# quality <options ..>: rows of the table of labels against masks, where GT_LIST names masks
quality() {
  [ -n "${GT_LIST:-}" ] || return 0
  run "$SPML_PYTHON" pyscripts/benchmark/quality.py --json "$SNAPSHOTS/quality.json" --data_dir "$DATAROOT" \
    --data_list "$GT_LIST" --num_classes "$NUM_CLASSES" ${CLASSES:+--classes "$CLASSES"} "$@"
}

# A classification network, from tags.
stage_train_cam() {
  local own=() CFG=$CAM_CFG
  read -r -a own <<<"${CAM:-}"
  train_network pyscripts/train/train_cam.py --snapshot_dir "$SNAPSHOTS/cam_network" \
    ${OVERRIDES[@]+"${OVERRIDES[@]}"} ${own[@]+"${own[@]}"}
}

# Its CAMs, and labels of them. Masks only say what they are worth.
stage_cam() {
  local CFG=$CAM_CFG boxes=()
  [ "$CAM_KIND" = tag ] || boxes=(--boxes "$BOXES")
  network pyscripts/inference/cam.py --snapshot_dir "$SNAPSHOTS/cam_network" --save_dir "$SNAPSHOTS/cams" \
    ${boxes[@]+"${boxes[@]}"} ${INSTANCE_DIR:+--instance_dir "$INSTANCE_DIR"} ${GT_LIST:+--gt_list "$GT_LIST"}
  quality --labels "CAM=$SNAPSHOTS/cams/${CAM_KIND}_label"
}

# The embedding, under the relations.
stage_train() {
  train_network pyscripts/train/train.py --snapshot_dir "$SNAPSHOTS/stage1" ${LABELS[@]+"${LABELS[@]}"} \
    ${OVERRIDES[@]+"${OVERRIDES[@]}"}
}

# What the embedding alone is worth: retrieval from a memory of weak labels. The release's memory had the full masks.
stage_retrieval() {
  memory "$SNAPSHOTS/memory" ""
  predict "$SNAPSHOTS/retrieval" "$SNAPSHOTS/stage1" --kmeans_num_clusters "$GRID" \
    --semantic_memory_dir "$SNAPSHOTS/memory"
  benchmark benchmark_by_mIoU.py "$SNAPSHOTS/retrieval" mIoU.json
  quality --results "test images: retrieval=$SNAPSHOTS/retrieval/mIoU.json"
}

stage_pseudo() {
  pseudo_label "$SNAPSHOTS/pseudo" "$SNAPSHOTS/stage1" --source "$SOURCE"
  quality --labels "pseudo labels=$SNAPSHOTS/pseudo/semantic_gray"
}

# On the pseudo labels; the release's scripts for scribbles and points took the weak labels by mistake.
stage_classifier() { train_classifier "$SNAPSHOTS/stage2" "$SNAPSHOTS/pseudo/list.txt"; }

stage_evaluate() {
  local folder=$SNAPSHOTS/evaluation status=0 views=(--scales "0.5,0.75,1,1.25,1.5" --flip --crf)
  if [ "${RELEASED_EVALUATION:-0}" = 1 ]; then
    folder+=_released views=(${RELEASED[@]+"${RELEASED[@]}"})
  fi
  predict "$folder" "$SNAPSHOTS/stage2" --predictor softmax ${views[@]+"${views[@]}"}
  benchmark benchmark_by_instance.py "$folder" mIoU_by_instance.json
  benchmark benchmark_by_mIoU.py "$folder" mIoU.json ${EXPECT:+--expect "$EXPECT" --tolerance 0.5} || status=$?
  quality --results "test images: classifier=$folder/mIoU.json"
  return "$status"
}

# TRAIN_LIST, TEST_LIST, NUM_CLASSES and CLASSES, as the config and the overrides have them.
read_config() {
  local values
  values=$("$SPML_PYTHON" -c '
import sys
from spml.cli.exits import run
from spml.config import load_config
def main():
    data = load_config(sys.argv[1], sys.argv[2:]).dataset
    print(data.train_data_list, data.test_data_list, data.num_classes, data.classes, sep="\n", end="\n.")
run(main)' "$CFG" ${OVERRIDES[@]+"${OVERRIDES[@]}"})
  { read -r TRAIN_LIST && read -r TEST_LIST && read -r NUM_CLASSES && read -r CLASSES; } <<<"$values"
  [ "${DRY:-0}" = 1 ] && return
  [ ${#LABELS[@]} -eq 0 ] || TRAIN_LIST=$TEST_LIST  # that of training is still to be made
  [ -z "${GT_LIST:-}" ] || [ -f "$GT_LIST" ] || fail "GT_LIST: no data list $GT_LIST"
  for values in "$TRAIN_LIST" "$TEST_LIST"; do
    [ -f "$values" ] || fail "no data list $values, which $CFG names; pyscripts/data/lists.py makes the released ones"
  done
}

# What is done is kept, so a run with other settings must not go on in its folder.
check_settings() {
  local file=$SNAPSHOTS/settings.txt settings
  settings=$(printf '%s\n' "$CFG" "$DATAROOT" "$GRID" "${CLASSIFIER:-}" ${OVERRIDES[@]+"${OVERRIDES[@]}"})
  [ -z "$CAM_KIND" ] || settings+=$(printf '\n%s' "${CAM_DIR:-$CAM_CFG}" "${CAM:-}" "${BOXES:-}" "${INSTANCE_DIR:-}")
  if [ -f "$file" ] && [ "$(cat "$file")" != "$settings" ]; then
    fail "$file: this folder holds a run with other settings: name another in SNAPSHOTS, or delete that file to go on"
  fi
  mkdir -p -- "$SNAPSHOTS"
  printf '%s\n' "$settings" >"$file"
}

# pipeline <config> <k-means grid outside training> <stages> <overrides ..>
pipeline() {
  local all=$3 stage
  CFG=${CFG:-$1} GRID=${GRID:-$2} GPUS=${GPUS:-1} OVERRIDES=("${@:4}") name=${CFG#configs/}
  name=${name%.yaml} SNAPSHOTS=${SNAPSHOTS:-snapshots/${name//\//_}}
  if [ -n "$CAM_KIND" ] && [ -z "${CAM_DIR:-}" ]; then
    [ -n "${CAM_CFG:-}" ] || [[ $CFG == *"$CAM_KIND.yaml" ]] ||
      fail "CAM_CFG is not set: expected the config of a network of CAMs, or CAM_DIR=<folder of CAMs that are there>"
    all="train_cam cam $all" CAM_CFG=${CAM_CFG:-${CFG%"$CAM_KIND.yaml"}cam.yaml}
    LABELS=(--data_list "$SNAPSHOTS/cams/list_$CAM_KIND.txt")
    [ "$CAM_KIND" = tag ] || [ -n "${BOXES:-}" ] || fail "BOXES is not set: expected boxes.json or a folder of VOC XML"
  fi
  STAGES=${STAGES:-$all}
  [ -n "${DATAROOT:-}" ] || fail "DATAROOT is not set: expected DATAROOT=<folder that the data lists start from> bash $0"
  [[ $GPUS =~ ^[1-9][0-9]*$ ]] || fail "GPUS: expected a whole number of at least 1, got $GPUS"
  for stage in $STAGES; do
    [[ " $all " == *" $stage "* ]] || fail "STAGES: expected some of \"$all\", got $stage"
  done
  for stage in ${OVERRIDES[@]+"${OVERRIDES[@]}"}; do
    [[ $stage == [a-z]*=* ]] || fail "expected key=value of the config, as in train.base_lr=0.001, got $stage"
  done
  if [ -z "${SPML_PYTHON:-}" ]; then
    # shellcheck source=bashscripts/setup.sh
    source bashscripts/setup.sh
    spml_setup
  fi
  read_config
  [ "${DRY:-0}" = 1 ] || check_settings
  for stage in $all; do
    if [[ " $STAGES " == *" $stage "* ]]; then
      printf '\n== %s: %s ==\n' "$name" "$stage"
      "stage_$stage"
    fi
  done
}
