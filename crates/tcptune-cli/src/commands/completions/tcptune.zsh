#compdef tcptune
# Completion of tcptune(1) for zsh. What is possible is said by the command itself.
_tcptune() {
    local answer line
    local -a lines described
    answer=$(command tcptune complete -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null) || return
    lines=("${(@f)answer}")
    case $lines[1] in
    words)
        for line in "${(@)lines[2,-1]}"; do
            described+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
        done
        _describe -V tcptune described
        ;;
    files)
        compset -P '--*='
        _files
        ;;
    command*)
        shift "${lines[1]#command }" words
        ((CURRENT -= ${lines[1]#command }))
        _normal
        ;;
    esac
}
if [ "$funcstack[1]" = _tcptune ]; then
    _tcptune "$@"
else
    compdef _tcptune tcptune
fi
