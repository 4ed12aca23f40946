# Completion of tcptune(1) for bash. What is possible is said by the command itself.
_tcptune() {
    local answer lines words=() at=() i
    # bash takes --flag=value for three words.
    for ((i = 0; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} == = ]] || { words+=("${COMP_WORDS[i]}") && at+=("$i"); }
    done
    answer=$(command tcptune complete -- "${words[@]}" "$2" 2>/dev/null) || return
    mapfile -t lines <<<"$answer"
    case ${lines[0]} in
    words)
        COMPREPLY=("${lines[@]:1}")
        COMPREPLY=("${COMPREPLY[@]%%$'\t'*}")
        ;;
    files)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$2")
        ;;
    command*)
        i=${at[${lines[0]#command }]}
        if declare -F _command_offset >/dev/null; then
            _command_offset "$i"
        else
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$2")
        fi
        ;;
    esac
}
complete -F _tcptune tcptune
