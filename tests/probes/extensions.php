<?php
// IP PORT: how many milliseconds three extensions need until they know that nobody answers there, and the idle time of
// keepalive of the last one's socket.
[$ip, $port] = array_slice($argv, 1);
foreach (['curl', 'pgsql', 'sockets'] as $extension) {
    $begun = microtime(true);
    if ($extension == 'curl') {
        $curl = curl_init("http://$ip:$port/");
        curl_setopt($curl, CURLOPT_TIMEOUT, 15);
        curl_exec($curl);
    } elseif ($extension == 'pgsql') {
        @pg_connect("host=$ip port=$port connect_timeout=15");
    } else {
        $socket = socket_create(AF_INET, SOCK_STREAM, SOL_TCP);
        @socket_connect($socket, $ip, (int)$port);
        echo 'idle=', socket_get_option($socket, SOL_TCP, 4), PHP_EOL;
    }
    echo $extension, '=', (int)((microtime(true) - $begun) * 1000), PHP_EOL;
}
