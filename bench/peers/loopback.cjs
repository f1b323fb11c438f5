// Preloaded into a peer that has no option for the address it binds: whatever port it
// listens on without naming a host, it listens on loopback only. The bench must not open
// ports to the network, and binding one address instead of all costs nothing per call.
const net = require('node:net');

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  if (typeof port === 'number' && typeof rest[0] !== 'string') {
    return listen.call(this, port, '127.0.0.1', ...rest);
  }
  return listen.call(this, port, ...rest);
};
