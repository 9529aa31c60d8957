// The accepting side of one worker: listeners and the sessions of clients.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/auth/authenticator.hpp"
#include "relay/delivery/dispatcher.hpp"
#include "relay/ingress/admission.hpp"
#include "relay/ingress/credentials.hpp"
#include "relay/net/deadlines.hpp"
#include "relay/net/tls.hpp"
#include "relay/runtime/task_group.hpp"
#include "smtp/server_session.hpp"

namespace egret::relay {

/// A listening socket of one worker.
struct Door {
  std::string address;  ///< as the configuration has it
  boost::asio::ip::tcp::acceptor acceptor;
};
using Doors = std::vector<std::unique_ptr<Door>>;

/// Opens the listening sockets of one worker (SO_REUSEPORT, so that each worker has its own), but for those whose address
/// `previous` has too. Throws std::runtime_error with one line that names the address.
Doors open_listeners(const boost::asio::any_io_executor& executor, const config::Config& config, const config::Config* previous);

/// Throws like open_listeners() when another program listens there already: with SO_REUSEPORT the kernel would let
/// two of them share the port.
void check_ports_free(const config::Config& config, const config::Config* previous);

/// What the listeners of all workers share.
struct IngressShared {
  explicit IngressShared(const config::Limits& limits) : admission(limits) {}
  Admission admission;
  Rates rates;
  Authenticator authenticator;
};

/// Used from its worker's thread only.
class Ingress {
 public:
  Ingress(const boost::asio::any_io_executor& executor, DeliveryShared& delivery, IngressShared& shared, Dispatcher& dispatcher,
          Deadlines& deadlines);
  ~Ingress();

  void set_credentials(Credentials credentials);
  void start(Doors doors);
  /// The configuration in DeliveryShared is another: sessions that begin from now on have it; those that run keep theirs.
  /// Doors that it no longer names are closed, `fresh` ones opened.
  void configure(Credentials credentials, Doors fresh);
  /// Accepts no more, lets running transactions end until `deadline`, then breaks them off; those whose clients wait for
  /// the verdict of a receiver are left to finish().
  boost::asio::awaitable<void> stop(Deadline deadline);
  /// After the dispatchers have stopped: the last verdicts are told.
  boost::asio::awaitable<void> finish(Deadline deadline);

 private:
  class Session;
  /// What a session begins with, and keeps. Immutable.
  struct Front {
    std::shared_ptr<const config::Config> config;
    std::vector<smtp::ServerOptions> options;  ///< by listener
    std::vector<smtp::ServerOptions> repairing;
    std::vector<std::shared_ptr<TlsContext>> tls;  ///< null where the listener has none
  };
  void renew_front();
  boost::asio::awaitable<void> accept(Door* door);
  boost::asio::awaitable<void> serve(boost::asio::ip::tcp::socket socket, routing::IpAddress peer,
                                     std::shared_ptr<const Front> front, std::size_t listener);
  /// Reads the PROXY header that a load balancer must send; false when there is none to be believed.
  boost::asio::awaitable<bool> read_proxy_header(Stream* stream, routing::IpAddress* client, std::string* rest);
  void relieve();
  boost::asio::awaitable<void> converse(std::unique_ptr<Stream> stream, std::shared_ptr<const Front> front, std::size_t listener,
                                        routing::IpAddress client);
  boost::asio::awaitable<void> turn_away(std::unique_ptr<Stream> stream, std::string reason);
  void trim();

  boost::asio::any_io_executor executor_;
  DeliveryShared& delivery_;
  IngressShared& shared_;
  Dispatcher& dispatcher_;
  Deadlines& deadlines_;
  Credentials credentials_;
  std::shared_ptr<const Front> front_;
  Doors doors_;
  std::set<Session*> sessions_;
  std::size_t waiting_ = 0;  ///< sessions whose clients wait for a verdict
  Deadline relieved_{};
  std::size_t crowd_ = 0;  ///< most sessions at once since the last trim
  bool stopping_ = false;
  TaskGroup tasks_;
};

}  // namespace egret::relay
