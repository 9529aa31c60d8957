// The accepting side of one worker: listeners and the SMTP sessions of clients.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "config/config.hpp"
#include "relay/delivery/dispatcher.hpp"
#include "relay/metrics.hpp"
#include "relay/net/deadlines.hpp"
#include "relay/runtime/task_group.hpp"
#include "relay/spool/spool.hpp"
#include "smtp/server_session.hpp"

namespace egret::relay {

/// Connections in all and of each client, over all workers.
class Admission {
 public:
  explicit Admission(const config::Limits& limits) : limits_(limits) {}
  /// Empty when the client may come in, else the text of the 421.
  std::string enter(const routing::IpAddress& client);
  void leave(const routing::IpAddress& client);

 private:
  config::Limits limits_;
  std::mutex mutex_;
  int total_ = 0;
  std::map<routing::IpAddress, int> clients_;
};

/// Opens the listening sockets of one worker (SO_REUSEPORT, so that each worker has its own). Throws
/// std::runtime_error with one line that names the address.
std::vector<boost::asio::ip::tcp::acceptor> open_listeners(const boost::asio::any_io_executor& executor,
                                                           const config::Config& config);

/// Throws like open_listeners() when another program listens there already: with SO_REUSEPORT the kernel would let
/// two of them share the port.
void check_ports_free(const config::Config& config);

class Ingress {
 public:
  Ingress(const boost::asio::any_io_executor& executor, DeliveryShared& shared, Dispatcher& dispatcher, Deadlines& deadlines,
          Admission& admission);
  ~Ingress();

  void start(std::vector<boost::asio::ip::tcp::acceptor> acceptors);
  /// Accepts no more, lets running transactions end until `deadline`, then breaks them off.
  boost::asio::awaitable<void> stop(Deadline deadline);

 private:
  class Session;
  boost::asio::awaitable<void> accept(std::size_t listener);
  boost::asio::awaitable<void> serve(boost::asio::ip::tcp::socket socket, std::size_t listener);

  boost::asio::any_io_executor executor_;
  DeliveryShared& shared_;
  Dispatcher& dispatcher_;
  Deadlines& deadlines_;
  Admission& admission_;
  std::vector<smtp::ServerOptions> options_;  ///< by listener, then with repair
  std::vector<smtp::ServerOptions> repairing_;
  std::vector<boost::asio::ip::tcp::acceptor> acceptors_;
  std::set<Session*> sessions_;
  bool stopping_ = false;
  TaskGroup tasks_;
};

}  // namespace egret::relay
