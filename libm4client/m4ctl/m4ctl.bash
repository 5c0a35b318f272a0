# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# bash completion of m4ctl
_m4ctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local global='--socket --timeout --json --help'
	local media='--image --audio --imu'
	local command='' action='' word i
	COMPREPLY=()

	case $prev in
	--socket | --image | --audio | --imu | --out | --base | --query-image | --query-audio | --query-imu | --adapter)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--store | --sysfs)
		if [[ " ${COMP_WORDS[*]} " == *' adapter import '* ]]; then
			mapfile -t COMPREPLY < <(compgen -W 'f16 f32' -- "$cur")
			return
		fi
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	--timeout | --name | --raise | --max-tokens | --seed | --temperature | --top-k | --top-p | --stop | --ids | --top | --context | --tokens | --prefill | --text | --query-text | --label | --part | --task | --prompt-template | --unused)
		return
		;;
	esac

	# The command is the first word that is neither an option nor its value.
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--socket | --timeout | --name | --store | --sysfs | --context | --tokens | --prefill) ((i++)) ;;
		--image | --audio | --imu | --text | --label | --part | --query-*) ((i++)) ;;
		--out | --base | --task | --prompt-template) ((i++)) ;;
		--adapter | --unused) ((i++)) ;;
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
	'') words="status ps parts run score embed classify similar transcribe tokenize detokenize firmware adapter doctor bench $global --version" ;;
	run) words="--greedy --max-tokens --seed --temperature --top-k --top-p --stop --ignore-eos --stats --adapter --no-template $media $global" ;;
	score) words="--ids --top --adapter $global" ;;
	embed) words="$media --text --part --hidden $global" ;;
	classify) words="$media --text --part --label --adapter --top $global" ;;
	similar) words="$media --text --query-image --query-audio --query-imu --query-text $global" ;;
	transcribe)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		words="--language --translate --timestamps --beam --max-tokens --prompt-ids --part $global"
		;;
	doctor) words="--warm $global" ;;
	bench) words="--context --tokens --prefill $global" ;;
	tokenize) words="--no-special $global" ;;
	adapter)
		case $action in
		'') words="import inspect check add list publish unpublish rm gc $global" ;;
		import)
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			words="--out --base --part --name --task --prompt-template --store --force $global"
			;;
		inspect)
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			words="--base $global"
			;;
		check | add)
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			words=$global
			;;
		gc) words="--unused $global" ;;
		*) words=$global ;;
		esac
		;;
	firmware)
		local place='--name --store --sysfs'
		case $action in
		'') words="show verify stage list activate rollback load floor remove $global" ;;
		verify)
			mapfile -t COMPREPLY < <(compgen -d -- "$cur")
			words="--name --sysfs $global"
			;;
		stage)
			mapfile -t COMPREPLY < <(compgen -d -- "$cur")
			words="$place $global"
			;;
		activate) words="latest --no-load --adopt $place $global" ;;
		rollback) words="--no-load $place $global" ;;
		load) words="--or-previous $place $global" ;;
		floor) words="--raise $place $global" ;;
		list | remove) words="$place $global" ;;
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
