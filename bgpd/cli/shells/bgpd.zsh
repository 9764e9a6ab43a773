#compdef bgpd
# Completion of bgpd for zsh. Written by: bgpd completion zsh
#
# bgpd itself says what may follow: a word and its description in a line.

_bgpd() {
    local answer command=${words[1]}
    local -a answers found before
    (( CURRENT > 2 )) && before=("${(@Q)words[2,CURRENT-1]}")
    answers=("${(@f)$("${(Q)command}" completion zsh -- "${before[@]}" "${(Q)PREFIX}" 2>/dev/null)}")
    for answer in "${answers[@]}"; do
        case $answer in
            (:files|:directories)
                compset -P '--[^=]#='
                if [[ $answer == :files ]]; then _files; else _files -/; fi
                return
                ;;
            (?*) found+=("${${answer%%$'\t'*}//:/\\:}:${answer#*$'\t'}") ;;
        esac
    done
    (( ${#found} )) && _describe -V bgpd found
}

if [[ ${funcstack[1]} == _bgpd ]]; then
    _bgpd "$@"
else
    compdef _bgpd bgpd
fi
