#!/bin/sh
# Attaches to the cgroup of each pod of this node that has the label `tcptune`, whose value is the name of a profile, and
# detaches where the label is gone. When a pod ends, its cgroup goes, and what is attached with it.
set -eu

account=/var/run/secrets/kubernetes.io/serviceaccount
cgroups=/sys/fs/cgroup

# UID and profile of each pod, a line each. The token is renewed now and then, so it is read each time.
pods() {
    curl --fail --silent --show-error --max-time 10 --get --cacert "$account/ca.crt" \
        --header "Authorization: Bearer $(cat "$account/token")" --data-urlencode labelSelector=tcptune \
        --data-urlencode "fieldSelector=spec.nodeName=$NODE" "${API:-https://kubernetes.default.svc}/api/v1/pods" |
        jq --raw-output --exit-status '.items | map("\(.metadata.uid) \(.metadata.labels.tcptune)") | join("\n")'
}

# cgroup UID: the directory that the kubelet has made for a pod, through systemd (kubepods-burstable-podUID.slice, with _ for
# -) or by itself (kubepods/burstable/podUID).
cgroup() {
    find "$cgroups" -mindepth 1 -maxdepth 5 -type d \
        \( -path "*kubepods*pod$(echo "$1" | tr - _).slice" -o -path "*kubepods*/pod$1" \) | head -n 1
}

attached=$(mktemp -d)
while :; do
    # Where the API server does not answer, all stays as it is.
    if pods >"$attached/pods"; then
        while read -r uid profile; do
            [ -n "$uid" ] || continue
            directory=$(cgroup "$uid")
            now="$directory $profile"
            if [ -n "$directory" ] && [ "$now" != "$(cat "$attached/of-$uid" 2>/dev/null)" ]; then
                if tcptune attach --cgroup "$directory" --profile "$profile"; then
                    echo "$now" >"$attached/of-$uid"
                fi
            fi
        done <"$attached/pods"
        for known in "$attached"/of-*; do
            if [ -f "$known" ] && ! grep -q "^${known##*/of-} " "$attached/pods"; then
                read -r directory _ <"$known"
                rm "$known"
                [ ! -d "$directory" ] || tcptune detach --cgroup "$directory"
            fi
        done
    fi
    sleep "${EVERY:-5}"
done
