#!/bin/sh
# postfix.sh DIRECTORY ROOT LIBRARY: in name spaces of its own, posts a letter for a host that drops every SYN, with the
# lines of DIRECTORY/main.cf, and prints what postfix says of it. Nothing leaves the name space, which has loopback alone.
set -eu
directory=$1 lower=$2 library=$3
mount -t tmpfs tmpfs "$directory/all"
cd "$directory/all"
mkdir upper work root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=upper,workdir=work" root
mount -t proc proc root/proc
mount --rbind /dev root/dev
ip link set lo up
nft 'table inet hole { chain in { type filter hook input priority 0; tcp dport 7001 drop; }; }'

cp "$library" root/usr/lib/x86_64-linux-gnu/libtcptune.so
# What the packages' scripts would have made
ln -sf dash root/bin/sh
ln -sf mawk root/bin/awk
printf '%s\n' root:x:0:0::/root:/bin/sh postfix:x:101:101::/:/bin/false nobody:x:65534:65534::/:/bin/false >root/etc/passwd
printf '%s\n' root:x:0: postfix:x:101: postdrop:x:102: nogroup:x:65534: >root/etc/group
mkdir -p root/var/lib/postfix root/var/spool/postfix root/var/log
# It listens nowhere.
sed '/ inet /d' root/usr/share/postfix/master.cf.dist >root/etc/postfix/master.cf
cat - "$directory/main.cf" >root/etc/postfix/main.cf <<'EOF'
compatibility_level = 3.6
myhostname = here.invalid
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
relayhost = [127.0.0.1]:7001
disable_dns_lookups = yes
alias_maps =
alias_database =
maillog_file = /var/log/postfix.log
EOF
cat >root/post <<'EOF'
postfix set-permissions
postfix start
printf 'Subject: a letter\n\nText.\n' | sendmail -f from@here.invalid to@there.invalid
left=120
until grep -q status=deferred /var/log/postfix.log || [ $left = 0 ]; do
    sleep 0.5
    left=$((left - 1))
done
postfix stop
EOF
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot root /bin/sh /post >said 2>&1 || cat said
cat root/var/log/postfix.log
