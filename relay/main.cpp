#include "relay/cli/cli.hpp"

int main(int argc, char** argv) {
  return egret::relay::run_cli(argc, argv);
}
