# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# bash completion of m4ctl
_m4ctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local global='--socket --timeout --json --help'
	local command='' action='' word i
	COMPREPLY=()

	case $prev in
	--socket)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--timeout | --max-tokens | --seed | --temperature | --top-k | --top-p | --stop | --ids | --top)
		return
		;;
	esac

	# The command is the first word that is neither an option nor its value.
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--socket | --timeout) ((i++)) ;;
		-*) ;;
		*)
			if [ -z "$command" ]; then
				command=$word
			elif [ -z "$action" ]; then
				action=$word
			fi
			;;
		esac
	done

	local words
	case $command in
	'') words="status ps run score tokenize detokenize firmware doctor $global --version" ;;
	run) words="--greedy --max-tokens --seed --temperature --top-k --top-p --stop --ignore-eos --stats $global" ;;
	score) words="--ids --top $global" ;;
	tokenize) words="--no-special $global" ;;
	firmware)
		case $action in
		'') words="show verify $global" ;;
		verify)
			mapfile -t COMPREPLY < <(compgen -d -- "$cur")
			words=$global
			;;
		*) words=$global ;;
		esac
		;;
	*) words=$global ;;
	esac
	local found
	mapfile -t found < <(compgen -W "$words" -- "$cur")
	COMPREPLY+=("${found[@]}")
}
complete -o filenames -F _m4ctl m4ctl
