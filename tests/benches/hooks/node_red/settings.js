// Node-RED without its editor; all else as it comes.

module.exports = {
  flowFile: "flows.json",
  httpAdminRoot: false,
  uiHost: "127.0.0.1",
  logging: { console: { level: "error" } },
  telemetry: { enabled: false, updateNotification: false },
};
