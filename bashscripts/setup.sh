#!/usr/bin/env bash
# The project's virtual environment: made on the first call, reused after. `bash bashscripts/setup.sh`, or source this
# file and call `spml_setup [dev|studio]`, which leaves the interpreter in $SPML_PYTHON; `dev` adds the tools of the tests,
# `studio` what the page needs.
# `spml_run` at the end is what the scripts of the pipelines call.
#
#   PYTHON=python3.12    use this interpreter instead of the first of 3.10 to 3.13 on PATH
#   SPML_VENV=folder     keep it there (relative to the project), not in .venv
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu    torch without CUDA: a much smaller download

# Without bytecode files every process compiles torch anew, which takes 7 s instead of 2.
unset PYTHONDONTWRITEBYTECODE

SPML_ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

_spml_say() { printf '[setup] %s\n' "$*" >&2; }

# Prints the interpreter to use. A name on PATH may be a shim of a version that is not active, so each is run.
_spml_find_python() {
  local candidate candidates=(python3.12 python3.11 python3.13 python3.10 python3 python)
  if [ -n "${PYTHON:-}" ]; then candidates=("$PYTHON"); fi
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
      >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  _spml_say "no usable Python: expected 3.10 to 3.13 with its venv module, tried ${candidates[*]}"
  return 1
}

# Makes the environment $1. A file `unfinished` in it means an interrupted call: it starts from nothing.
_spml_make_venv() {
  local venv=$1 python
  if [ -e "$venv" ]; then
    if [ ! -e "$venv/pyvenv.cfg" ] && [ ! -e "$venv/unfinished" ]; then
      _spml_say "$venv exists and is no virtual environment: move it away or name another folder in SPML_VENV"
      return 1
    fi
    _spml_say "$venv is not complete or does not run: making it again"
  fi
  python=$(_spml_find_python) || return 1
  _spml_say "making $venv with $("$python" --version)"
  rm -rf -- "$venv" && mkdir -p -- "$venv" && : >"$venv/unfinished" && "$python" -m venv "$venv"
}

# `pip install` with the arguments after $1, the log file; of its output only the large downloads show. Modules compile
# when they are imported, not all up front, which keeps a core busy for a minute or more.
_spml_pip() {
  local log=$1 line told='(Downloading|Using cached) .*\([0-9]{2,}\.[0-9]+ MB\)|Installing collected packages'
  shift
  (
    set -o pipefail
    "$SPML_PYTHON" -m pip install --no-compile --disable-pip-version-check --progress-bar off "$@" 2>&1 |
      tee "$log" | while IFS= read -r line; do
      if [[ $line =~ $told ]]; then _spml_say "  ${BASH_REMATCH[0]}"; fi
    done
  )
}

spml_setup() {
  local kind=${1:-base} venv=${SPML_VENV:-.venv} begin=$SECONDS stamp project=.
  case $venv in /*) ;; *) venv=$SPML_ROOT/$venv ;; esac
  SPML_PYTHON=$venv/bin/python
  # What the installed packages follow from; the folder, because scripts and the editable install hold its path.
  stamp="$SPML_ROOT $(cat "$SPML_ROOT/requirements.txt" "$SPML_ROOT/setup.py" | cksum)" || return 1
  if [ -e "$venv/unfinished" ] || ! "$SPML_PYTHON" -c '' 2>/dev/null; then
    _spml_make_venv "$venv" || return 1
  elif [ "$(cat "$venv/stamp-$kind" 2>/dev/null)" = "$stamp" ]; then
    return 0
  fi
  case $kind in
    dev) project=".[dev]" ;;
    studio) project=".[studio,pretrained,oversegment]" ;;
  esac
  _spml_say "installing the packages of requirements.txt and setup.py ($kind); the first time takes minutes"
  if ! (cd "$SPML_ROOT" && _spml_pip "$venv/install.log" -r requirements.txt -e "$project"); then
    tail -n 15 "$venv/install.log" >&2
    _spml_say "pip failed, see $venv/install.log; call again to go on"
    return 1
  fi
  rm -f -- "$venv/unfinished"
  if ! "$SPML_PYTHON" -c 'import pydensecrf.densecrf' 2>/dev/null; then
    _spml_say "building pydensecrf2 (the CRF); a minute or two"
    # Its own build asks for Cython 0.29, whose code does not compile for Python 3.13; this one's does for all.
    { _spml_pip "$venv/pydensecrf2.log" 'Cython>=3.0.11,<3.1' setuptools wheel &&
      _spml_pip "$venv/pydensecrf2.log" --no-build-isolation pydensecrf2; } ||
      _spml_say "no pydensecrf2: it needs a C++ compiler and Python's headers, see $venv/pydensecrf2.log; CRFs run in torch"
  fi
  "$SPML_PYTHON" -c 'import spml, torch; print(f"[setup] torch {torch.__version__}")' >&2 || return 1
  printf '%s\n' "$stamp" >"$venv/stamp-base" && printf '%s\n' "$stamp" >"$venv/stamp-$kind" || return 1
  _spml_say "done in $((SECONDS - begin)) s"
}

# spml_run <annotation> <config> [key=value ..]: a pipeline, `spml run`, with the settings of the environment:
#
#   DATAROOT=folder        the folder that paths in data lists are relative to; required
#   SNAPSHOTS=folder       for all output; by default snapshots/<name of the config>
#   STAGES="pseudo .."     run only these, in the order of the pipeline; earlier ones must be complete
#   DRY=1                  print the commands and run none
#   GPUS=4                 processes, by default 1; a step has GPUS x train.batch_size images; released: 4 x 4
#   CLASSIFIER="k=v .."    overrides for training of the classifier alone: train.max_iteration=4000
#   CAM="k=v .."           overrides for the CAM network and its maps alone
#   CFG=file  GRID=h,w     another config; another k-means grid outside training
#   RELEASED_EVALUATION=1  the last evaluation as the release's scripts do it, not CRF + scales + flip
#   ROUNDS=2               train anew on the pseudo labels
#   EXPECT  GT_LIST  CAM_CFG  CAM_DIR  BOXES  INSTANCE_DIR    as the options of `spml run`, which explains them
#   SPML_PYTHON=file       an interpreter that has all it needs, in place of the project's environment
spml_run() {
  local annotation=$1 config=${CFG:-$2} words=() setting value
  shift 2
  if [ -z "${DATAROOT:-}" ]; then
    printf 'error: DATAROOT is not set: expected DATAROOT=<folder that the data lists start from> bash %s\n' "$0" >&2
    return 1
  fi
  if [ -z "${SPML_PYTHON:-}" ]; then spml_setup || return 1; fi
  for setting in SNAPSHOTS GPUS CLASSIFIER CAM GRID ROUNDS EXPECT GT_LIST CAM_DIR BOXES INSTANCE_DIR; do
    value=${!setting:-}
    if [ -n "$value" ]; then words+=("--$(printf %s "$setting" | tr '[:upper:]' '[:lower:]')" "$value"); fi
  done
  if [ -n "${CAM_CFG:-}" ]; then words+=(--cam_config "$CAM_CFG"); fi
  if [ "${DRY:-0}" = 1 ]; then words+=(--dry); fi
  if [ "${RELEASED_EVALUATION:-0}" = 1 ]; then words+=(--released_evaluation); fi
  # shellcheck disable=SC2086  # STAGES holds several words
  if [ -n "${STAGES:-}" ]; then words+=(--only $STAGES); fi
  "$SPML_PYTHON" -m spml run "$annotation" --config "$config" --data_dir "$DATAROOT" ${words[@]+"${words[@]}"} "$@"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  spml_setup "$@"
fi
