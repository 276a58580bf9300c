# Usage: sh -c "$(cat janitor.sh)" janitor DIRECTORY
#
# Reads the process id of the postmaster that runs in DIRECTORY, one a line, empty when there is none. The input ends
# when the test process does, by whatever cause: then stops that postmaster and removes DIRECTORY.
while read -r line; do pid=$line; done

if [ -n "$pid" ]; then
    kill -QUIT "$pid" 2>/dev/null
    for _ in $(seq 100); do
        # Gone when its lock file is: as an orphan it may stay a zombie for long, which kill -0 takes for alive.
        [ -e "$1/data/postmaster.pid" ] && kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null
fi
rm -rf "$1"
