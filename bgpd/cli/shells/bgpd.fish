# Completion of bgpd for fish. Written by: bgpd completion fish
#
# bgpd itself says what may follow: a word and its description in a line.

function __bgpd_complete
    set -l words (commandline -opc)
    set -l token (commandline -ct)
    set -l command $words[1]
    set -e words[1]
    for answer in ($command completion fish -- $words "$token" 2>/dev/null)
        switch $answer
            case :files :directories
                set -l option (string match -r -- '^--[^=]*=' "$token")
                set -l path (string replace -r -- '^--[^=]*=' '' "$token")
                if test $answer = :files
                    string replace -r -- '^' "$option" (__fish_complete_path $path)
                else
                    string replace -r -- '^' "$option" (__fish_complete_directories $path)
                end
            case '*'
                printf '%s\n' $answer
        end
    end
end

complete -c bgpd -f -a '(__bgpd_complete)'
