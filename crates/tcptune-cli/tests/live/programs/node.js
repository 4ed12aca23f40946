// Connects to itself; prints its descriptor. It has no getsockopt: what it has asked for is known.
const net = require('net');
const server = net.createServer().listen(0, '127.0.0.1', () => {
  const client = net.connect(server.address().port, '127.0.0.1', () => {
    client.setNoDelay(true);
    client.setKeepAlive(true, 91000);
    console.log(JSON.stringify({ fd: client._handle.fd, port: client.localPort }));
  });
});
process.stdin.resume().on('end', () => process.exit(0));
